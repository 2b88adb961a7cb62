// SPDX-License-Identifier: GPL-2.0

//! Open files, held as `get_file()` does.
//!
//! The last `fput()` leaves the file to a task work, a delayed work in an interrupt (`fs/file_table.c`):
//! not in NMI. The memory is that of a file as long as there are readers, but may be another one's
//! (`SLAB_TYPESAFE_BY_RCU`): so it is put after them.

use super::handle::{
    bpf_kind,
    Handle,
    Object, //
};
use crate::{
    abstractions::file::{
        is_open,
        of_current,
        try_get, //
    },
    bindings::kptr_defer_file,
    defer::pending::InHardIrq,
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    fs::file::LocalFile,
    sync::{
        aref::AlwaysRefCounted,
        rcu, //
    },
};

// SAFETY: `fput()` may be called on any thread, in interrupts too.
unsafe impl Object for LocalFile {
    type DropsIn = InHardIrq;

    unsafe fn try_get(file: NonNull<Self>) -> bool {
        // SAFETY: The caller says that it is there.
        unsafe { try_get(file) }
    }

    unsafe fn is_complete(file: NonNull<Self>) -> bool {
        // SAFETY: The caller holds a reference.
        unsafe { is_open(file) }
    }

    unsafe fn put(_: NonNull<Self>) {}

    const PUT_AFTER_READERS: Option<unsafe fn(NonNull<Self>)> = Some(Self::dec_ref);
}

bpf_kind!(file: LocalFile as file);

/// As `__get_file_rcu()` does: it is the right file if it is still there once it is held.
///
/// # Safety
///
/// For the kfunc only.
#[no_mangle]
unsafe extern "C" fn kptr_defer_rust_file_acquire_fd(fd: u32) -> *mut kptr_defer_file {
    let rcu = rcu::Guard::new();
    // SAFETY: It is an RCU pointer. A program that calls a kfunc pins the module.
    let handle = unsafe { Handle::acquire_found(|| of_current(fd, &rcu)) };
    handle.map_or(ptr::null_mut(), |handle| handle.cast().as_ptr())
}
