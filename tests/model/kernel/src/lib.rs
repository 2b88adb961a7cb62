// SPDX-License-Identifier: GPL-2.0

//! What `defer/` and `abstractions/` use of the kernel's own crate, for user space and on loom. The
//! names, the types and what they promise are the kernel's.
//!
//! Without the feature `loom` it is on real atomics, for measuring.

#[cfg(not(feature = "loom"))]
extern crate std as loom;

pub use core::{
    ffi,
    fmt, //
};

pub mod cpu;
pub mod error;
pub mod shadow;
pub mod sync;
pub mod types;
pub mod workqueue;

pub mod prelude {
    pub use crate::error::{
        code::*,
        Error,
        Result, //
    };
    pub use crate::{
        pin_init,
        pr_err,
        str::{
            CStr,
            CStrExt, //
        }, //
    };
    pub use core::pin::Pin;
    pub use pinned_init::{
        pin_data,
        pinned_drop,
        try_pin_init,
        PinInit,
        PinnedDrop, //
    };
    pub use std::fmt::Write as _;
}

pub mod str {
    use core::ffi::c_char;
    pub use core::ffi::CStr;

    /// What the kernel has under its own names.
    pub trait CStrExt {
        /// # Safety
        ///
        /// A string, as long as the result is used.
        unsafe fn from_char_ptr<'a>(string: *const c_char) -> &'a CStr {
            // SAFETY: The caller promises that it is one.
            unsafe { CStr::from_ptr(string) }
        }

        fn as_char_ptr(&self) -> *const c_char;
    }

    impl CStrExt for CStr {
        fn as_char_ptr(&self) -> *const c_char {
            self.as_ptr()
        }
    }
}

#[macro_export]
macro_rules! pr_err {
    ($($args:tt)*) => { eprint!($($args)*) };
}

/// The kernel's takes an error, too.
#[macro_export]
macro_rules! pin_init {
    ($type:ident { $($fields:tt)* }? $error:ty) => {
        pinned_init::try_pin_init!($type { $($fields)* }? $error)
    };
    ($type:ident { $($fields:tt)* }) => {
        pinned_init::pin_init!($type { $($fields)* })
    };
}

#[macro_export]
macro_rules! container_of {
    ($field:expr, $type:ty, $name:ident) => {
        $field
            .cast::<u8>()
            .sub(core::mem::offset_of!($type, $name))
            .cast::<$type>()
    };
}

#[macro_export]
macro_rules! impl_has_work {
    (impl HasWork<$self:ty, $id:path> for $type:ident { self.$field:ident }) => {
        // SAFETY: It is the field.
        unsafe impl $crate::workqueue::HasWork<{ $id }> for $type {
            fn work(&self) -> &$crate::workqueue::Work<$type, { $id }> {
                &self.$field
            }
        }
    };
}

#[macro_export]
macro_rules! new_work {
    ($name:literal) => {
        $crate::workqueue::Work::new()
    };
}
