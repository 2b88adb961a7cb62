// SPDX-License-Identifier: GPL-2.0

//! The C API, declared and described in `include/kptr_defer.h`.

use super::{
    pending::{
        Destructor,
        InHardIrq,
        InProcess,
        PendingDrop, //
    },
    ENGINE,
};
use crate::bindings::kptr_defer_slot;
use core::ptr::NonNull;

/// # Safety
///
/// `slot` is valid and not handed over already; `dtor` may be called once with it, from hard
/// interrupt context or from where this is called. This module is loaded.
#[no_mangle]
unsafe extern "C" fn kptr_defer_drop(slot: NonNull<kptr_defer_slot>, dtor: Destructor) -> bool {
    // SAFETY: The caller is a module that depends on this one, which therefore stays loaded.
    let engine = unsafe { ENGINE.get() };
    // SAFETY: The caller promises what `PendingDrop` asks for.
    engine.give_back(unsafe { PendingDrop::<InHardIrq>::new(slot, dtor) })
}

/// # Safety
///
/// `slot` is valid and not handed over already; `dtor` may be called once with it, in process
/// context. This module is loaded.
#[no_mangle]
unsafe extern "C" fn kptr_defer_drop_sleepable(slot: NonNull<kptr_defer_slot>, dtor: Destructor) {
    // SAFETY: As above.
    let engine = unsafe { ENGINE.get() };
    // SAFETY: The caller promises what `PendingDrop` asks for.
    engine.give_back(unsafe { PendingDrop::<InProcess>::new(slot, dtor) });
}

/// # Safety
///
/// The caller may sleep. This module is loaded.
#[no_mangle]
unsafe extern "C" fn kptr_defer_barrier() {
    // SAFETY: As above.
    unsafe { ENGINE.get() }.barrier();
}
