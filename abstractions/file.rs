// SPDX-License-Identifier: GPL-2.0

//! What [`LocalFile`] cannot do yet.
//!
//! C headers: [`include/linux/file_ref.h`](srctree/include/linux/file_ref.h), `file_ref_get()`;
//! [`include/linux/fdtable.h`](srctree/include/linux/fdtable.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    fs::file::LocalFile,
    sync::rcu, //
};

/// Takes a reference, if there is one left; tells whether it has. It may be another file than the one
/// that was found there: its memory is used again while there are readers.
///
/// Context: any.
///
/// # Safety
///
/// `file` is an RCU pointer, or held.
#[inline]
pub unsafe fn try_get(file: NonNull<LocalFile>) -> bool {
    // SAFETY: The caller promises that it is valid; the type is a transparent wrapper.
    unsafe { bindings::file_tryget(file.cast().as_ptr()) }
}

/// Whether the file has been opened: until then hardly any field of it is set.
///
/// Context: any.
///
/// # Safety
///
/// The caller holds a reference.
#[inline]
pub unsafe fn is_open(file: NonNull<LocalFile>) -> bool {
    // SAFETY: The caller promises that it is valid; the type is a transparent wrapper.
    unsafe { bindings::file_is_open(file.cast().as_ptr()) }
}

/// The file that the current task has open, as an RCU pointer.
///
/// Context: any.
#[inline]
pub fn of_current(fd: u32, _rcu: &rcu::Guard) -> Option<NonNull<LocalFile>> {
    // SAFETY: There are no requirements but RCU. The file table is only let go by the current task.
    NonNull::new(unsafe { bindings::current_file(fd) }.cast())
}
