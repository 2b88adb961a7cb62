// SPDX-License-Identifier: GPL-2.0

//! What [`Credential`] cannot do yet.
//!
//! C header: [`include/linux/cred.h`](srctree/include/linux/cred.h), `get_cred_rcu()`

use crate::bindings;
use kernel::cred::Credential;

/// Takes a reference, if there is one left; tells whether it has.
///
/// Context: any.
#[inline]
pub fn get_unless_dying(cred: &Credential) -> bool {
    // SAFETY: A reference is a valid pointer.
    unsafe { bindings::cred_tryget(cred.as_ptr()) }
}
