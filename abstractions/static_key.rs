// SPDX-License-Identifier: GPL-2.0

//! Branches that are patched into the code.
//!
//! C header: [`include/linux/jump_label.h`](srctree/include/linux/jump_label.h)

/// As [`kernel::jump_label::static_branch_unlikely`], but tells the compiler that the branch leaves the
/// stack alone. Without that, every function with one in it begins by aligning its stack.
///
/// # Safety
///
/// `key` is a static of type `keytyp`, defined by C, whose `field` is a `struct static_key_false`.
macro_rules! static_branch_unlikely {
    ($key:path, $keytyp:ty, $field:ident) => {{
        #[cfg(CONFIG_JUMP_LABEL)]
        'branch: {
            ::kernel::asm!(
                include!(concat!(
                    env!("OBJTREE"),
                    "/rust/kernel/generated_arch_static_branch_asm.rs"
                ));
                l_yes = label { break 'branch true },
                symb = sym $key,
                off = const ::core::mem::offset_of!($keytyp, $field),
                branch = const 0,
                options(nostack, preserves_flags),
            );
            false
        }
        #[cfg(not(CONFIG_JUMP_LABEL))]
        {
            ::kernel::jump_label::static_branch_unlikely!($key, $keytyp, $field)
        }
    }};
}

pub(crate) use static_branch_unlikely;
