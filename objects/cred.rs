// SPDX-License-Identifier: GPL-2.0

//! Credentials, held as `get_cred()` does.
//!
//! The last `put_cred()` calls `call_rcu()` (`__put_cred()` in `kernel/cred.c`), which must not happen
//! in NMI.

use super::handle::{
    bpf_kind,
    Object, //
};
use crate::{
    abstractions::cred::get_unless_dying,
    defer::pending::InHardIrq, //
};
use core::ptr::NonNull;
use kernel::{
    cred::Credential,
    sync::aref::AlwaysRefCounted, //
};

// SAFETY: `put_cred()` calls `call_rcu()` at most, which frees them: those that are not freed by RCU
// become so when they are held.
unsafe impl Object for Credential {
    type DropsIn = InHardIrq;

    fn try_get(&self) -> bool {
        get_unless_dying(self)
    }

    unsafe fn put(cred: NonNull<Self>) {
        // SAFETY: The caller owns a reference.
        unsafe { Self::dec_ref(cred) };
    }
}

bpf_kind!(cred: Credential as cred);
