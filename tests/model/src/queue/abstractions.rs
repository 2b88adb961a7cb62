// SPDX-License-Identifier: GPL-2.0

//! The files themselves.

#![allow(dead_code)]

#[path = "../../../../abstractions/baton.rs"]
pub(crate) mod baton;
#[path = "../../../../abstractions/clock.rs"]
pub(crate) mod clock;
#[path = "../../../../abstractions/context.rs"]
pub(crate) mod context;
#[path = "../../../../abstractions/gauge.rs"]
pub(crate) mod gauge;
#[path = "../../../../abstractions/irq_work.rs"]
pub(crate) mod irq_work;
#[path = "../../../../abstractions/llist.rs"]
pub(crate) mod llist;
#[path = "../../../../abstractions/percpu.rs"]
pub(crate) mod percpu;
/// A static key is a variable.
pub(crate) mod static_key {
    macro_rules! static_branch_unlikely {
        ($key:path, $type:ty, $field:ident) => {{
            let key: *const $type = &raw const $key;
            (*key).$field
        }};
    }

    pub(crate) use static_branch_unlikely;
}
/// Nobody traces.
pub(crate) mod tracepoint {
    macro_rules! declare_trace {
        ($($(#[$attr:meta])* unsafe fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {$(
            mod $name {
                use super::*;

                pub(super) fn is_on() -> bool {
                    false
                }

                pub(super) unsafe fn fire($(_: $type),*) {}
            }
        )*};
    }

    pub(crate) use declare_trace;
}
#[path = "../../../../abstractions/workqueue.rs"]
pub(crate) mod workqueue;
