// SPDX-License-Identifier: GPL-2.0

//! What [`Credential`] cannot do yet.
//!
//! C header: [`include/linux/cred.h`](srctree/include/linux/cred.h), `get_cred_rcu()`

use crate::bindings;
use core::ptr::NonNull;
use kernel::cred::Credential;

/// Takes a reference, if there is one left; tells whether it has.
///
/// Context: any.
///
/// # Safety
///
/// `cred` is an RCU pointer, or held.
#[inline]
pub unsafe fn try_get(cred: NonNull<Credential>) -> bool {
    // SAFETY: The caller promises that it is valid; the type is a transparent wrapper.
    unsafe { bindings::cred_tryget(cred.cast().as_ptr()) }
}
