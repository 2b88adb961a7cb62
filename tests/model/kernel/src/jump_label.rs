// SPDX-License-Identifier: GPL-2.0

//! A static key is a variable.

#[macro_export]
macro_rules! static_branch_unlikely {
    ($key:path, $keytyp:ty, $field:ident) => {{
        let key: *const $keytyp = core::ptr::addr_of!($key);
        (*key).$field
    }};
}
pub use static_branch_unlikely;
