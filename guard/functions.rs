// SPDX-License-Identifier: GPL-2.0

//! What is guarded. `Documentation/release-kfuncs.md` says why these, and no others.

use crate::{
    abstractions::{
        ftrace::Call,
        kernel_function::KernelFunction,
        module_static::ModuleStatic, //
    },
    attached::LeavesOut,
    bindings::{
        cgroup,
        task_struct, //
    },
    guarded::{
        find,
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

                const INDEX: usize = Index::$type as usize;

                #[inline(always)]
                fn guarded() -> &'static ModuleStatic<Guarded<Self>> {
                    static GUARDED: ModuleStatic<Guarded<$type>> = ModuleStatic::new();
                    &GUARDED
                }
            }
        )*

        enum Index {
            $($(#[$condition])* $type,)*
            Count,
        }

        /// Where each of them is, if it is guarded.
        pub(crate) type Places = [Option<KernelFunction>; Index::Count as usize];

        /// Finds those that can be guarded, and says which cannot.
        pub(crate) fn find_all() -> Result<KVec<KBox<dyn Guard>>> {
            let mut found = KVec::new();
            $(
                $(#[$condition])*
                if let Ok(function) = find::<$type>() {
                    found.push(function, GFP_KERNEL)?;
                }
            )*
            Ok(found)
        }

        /// Leaves out the one that `ip` is in, if there is nothing left for it to do.
        ///
        /// # Safety
        ///
        /// Those that have a place are guarded.
        #[inline(always)]
        pub(crate) unsafe fn leave_out<W: LeavesOut>(places: &Places, ip: usize, call: &mut Call) {
            $(
                $(#[$condition])*
                if places[$type::INDEX].is_some_and(|place| place.contains(ip)) {
                    // SAFETY: The caller promises that.
                    return W::leave_out(unsafe { $type::guarded().get() }, call);
                }
            )*
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
