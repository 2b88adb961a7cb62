// SPDX-License-Identifier: GPL-2.0

//! What is guarded. `Documentation/release-kfuncs.md` says why these, and no others.

use crate::{
    abstractions::module_static::ModuleStatic,
    bindings::{
        cgroup,
        task_struct, //
    },
    guarded::{
        guard,
        Function,
        Guard,
        Guarded, //
    },
};
use kernel::{
    prelude::*,
    str::CStr, //
};

/// Each a release function of the kernel, as `name(struct argument *)`.
macro_rules! functions {
    ($($(#[$condition:meta])* $type:ident: $name:literal($argument:ty);)*) => {
        $(
            $(#[$condition])*
            enum $type {}

            $(#[$condition])*
            // SAFETY: That is what these are; see `kernel/bpf/helpers.c` and `mm/bpf_memcontrol.c`.
            unsafe impl Function for $type {
                type Argument = $argument;

                const NAME: &'static CStr = $name;

                #[inline(always)]
                fn guarded() -> &'static ModuleStatic<Guarded<Self>> {
                    static GUARDED: ModuleStatic<Guarded<$type>> = ModuleStatic::new();
                    &GUARDED
                }
            }
        )*

        /// Guards those that can be, and says which cannot.
        pub(crate) fn guard_all() -> Result<KVec<KBox<dyn Guard>>> {
            let mut guarded = KVec::new();
            $(
                $(#[$condition])*
                if let Ok(function) = guard::<$type>() {
                    guarded.push(function, GFP_KERNEL)?;
                }
            )*
            Ok(guarded)
        }
    };
}

functions! {
    TaskRelease: c"bpf_task_release"(task_struct);
    TaskReleaseDtor: c"bpf_task_release_dtor"(task_struct);
    CgroupRelease: c"bpf_cgroup_release"(cgroup);
    CgroupReleaseDtor: c"bpf_cgroup_release_dtor"(cgroup);
    #[cfg(CONFIG_MEMCG)]
    PutMemCgroup: c"bpf_put_mem_cgroup"(crate::bindings::mem_cgroup);
}
