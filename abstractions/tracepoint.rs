// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of a module, which C defines with `CREATE_RUST_TRACE_POINTS`.
//!
//! As [`kernel::tracepoint`], whose macro finds none but those that the kernel crate has bindings of.
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

/// Declares functions that fire tracepoints, in modules of their names. As long as nobody has attached
/// to the tracepoint, all there is of it where one is called is a nop.
///
/// `<name>::fire` is unsafe for the reasons that stand at its declaration.
macro_rules! declare_trace {
    ($($(#[$attr:meta])* unsafe fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {$(
        mod $name {
            use super::*;

            /// Whether somebody has attached. A nop or a jump.
            ///
            /// Context: any.
            #[inline(always)]
            pub(super) fn is_on() -> bool {
                #[cfg(CONFIG_TRACEPOINTS)]
                // SAFETY: It is the key of a tracepoint.
                unsafe {
                    ::kernel::macros::paste! {
                        $crate::abstractions::static_key::static_branch_unlikely!(
                            $crate::bindings::[< __tracepoint_ $name >],
                            $crate::bindings::tracepoint,
                            key
                        )
                    }
                }
                #[cfg(not(CONFIG_TRACEPOINTS))]
                false
            }

            $(#[$attr])*
            #[inline(always)]
            pub(super) unsafe fn fire($($argument: $type),*) {
                if is_on() {
                    #[cfg(CONFIG_TRACEPOINTS)]
                    ::kernel::macros::paste! {
                        // SAFETY: The caller promises that it may be called with these.
                        unsafe { $crate::bindings::[< rust_do_trace_ $name >]($($argument),*) };
                    }
                }
            }
        }
    )*};
}

pub(crate) use declare_trace;
