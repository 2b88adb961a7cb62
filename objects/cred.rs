// SPDX-License-Identifier: GPL-2.0

//! Credentials, held as `get_cred()` does.
//!
//! The last `put_cred()` calls `call_rcu()` (`__put_cred()` in `kernel/cred.c`), which must not happen
//! in NMI. Or it frees them on the spot, when they were made for one access only (`non_rcu`): so they
//! are put after their readers.

use super::handle::{
    bpf_kind,
    Object, //
};
use crate::{
    abstractions::cred::try_get,
    defer::pending::InHardIrq, //
};
use core::ptr::NonNull;
use kernel::{
    cred::Credential,
    sync::aref::AlwaysRefCounted, //
};

// SAFETY: `put_cred()` calls `call_rcu()`, or does what that does in a softirq.
unsafe impl Object for Credential {
    type DropsIn = InHardIrq;

    unsafe fn try_get(cred: NonNull<Self>) -> bool {
        // SAFETY: The caller says that they are there.
        unsafe { try_get(cred) }
    }

    unsafe fn put(_: NonNull<Self>) {}

    const PUT_AFTER_READERS: Option<unsafe fn(NonNull<Self>)> = Some(Self::dec_ref);
}

bpf_kind!(cred: Credential as cred);
