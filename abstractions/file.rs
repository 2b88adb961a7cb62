// SPDX-License-Identifier: GPL-2.0

//! What [`LocalFile`] cannot do yet.
//!
//! C header: [`include/linux/file_ref.h`](srctree/include/linux/file_ref.h), `file_ref_get()`

use crate::bindings;
use kernel::fs::file::LocalFile;

/// Takes a reference, if there is one left; tells whether it has.
///
/// Context: any.
#[inline]
pub fn get_unless_dying(file: &LocalFile) -> bool {
    // SAFETY: A reference is a valid pointer.
    unsafe { bindings::file_tryget(file.as_ptr()) }
}
