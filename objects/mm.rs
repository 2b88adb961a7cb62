// SPDX-License-Identifier: GPL-2.0

//! Address spaces, held as `mmget()` does: with all that is mapped there.
//!
//! Only the one of the current task can be taken. To the verifier the `vm_mm` of the vma iterator is
//! trusted even when the iterator has let go of it; and memory that is no mm any more must not be
//! counted in.
//!
//! The last `mmput()` takes the address space apart (`__mmput()` in `kernel/fork.c`), and sleeps. What
//! is left is not freed by RCU: `mmgrab()` keeps it for the readers. The last `mmdrop()` is for process
//! context, too: it takes locks that softirqs must not (`free_signal_struct()` says so).

use super::handle::{
    bpf_kind,
    Object, //
};
use crate::{
    abstractions::mm::is_of_current,
    defer::pending::InProcess, //
};
use core::{
    mem,
    ptr::NonNull, //
};
use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    sync::aref::AlwaysRefCounted, //
};

// SAFETY: `mmput()` and `mmdrop()` may be called in any process context.
unsafe impl Object for Mm {
    type DropsIn = InProcess;

    unsafe fn try_get(mm: NonNull<Self>) -> bool {
        if !is_of_current(mm) {
            return false;
        }
        // SAFETY: The current task does not leave it meanwhile.
        let mm = unsafe { mm.as_ref() };
        let Some(users) = mm.mmget_not_zero() else {
            return false;
        };
        mm.inc_ref();
        // `put` gives it back.
        mem::forget(users);
        true
    }

    unsafe fn put(mm: NonNull<Self>) {
        // SAFETY: The caller owns what `mmget_not_zero()` has taken.
        unsafe { MmWithUser::dec_ref(mm.cast()) };
    }

    const PUT_AFTER_READERS: Option<unsafe fn(NonNull<Self>)> = Some(Self::dec_ref);
}

bpf_kind!(mm: Mm as mm_struct);
