// SPDX-License-Identifier: GPL-2.0

//! Open files, held as `get_file()` does.
//!
//! The last `fput()` leaves the file to a task work, a delayed work in an interrupt (`fs/file_table.c`):
//! not in NMI. The memory is that of a file as long as there are readers, but may be another one's
//! (`SLAB_TYPESAFE_BY_RCU`): so it is put after them.

use super::handle::{
    bpf_kind,
    Object, //
};
use crate::{
    abstractions::file::get_unless_dying,
    defer::pending::InHardIrq, //
};
use core::ptr::NonNull;
use kernel::{
    fs::file::LocalFile,
    sync::aref::AlwaysRefCounted, //
};

// SAFETY: `fput()` may be called on any thread, in interrupts too.
unsafe impl Object for LocalFile {
    type DropsIn = InHardIrq;

    fn try_get(&self) -> bool {
        get_unless_dying(self)
    }

    unsafe fn put(_: NonNull<Self>) {}

    const PUT_AFTER_READERS: Option<unsafe fn(NonNull<Self>)> = Some(Self::dec_ref);
}

bpf_kind!(file: LocalFile as file);
