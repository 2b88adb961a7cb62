// SPDX-License-Identifier: GPL-2.0

//! What BPF programs can hold: a file for each kind of object, and the handle they have in common.

mod handle;
pub(crate) mod reserve;

#[cfg(CONFIG_CGROUPS)]
mod cgroup;
mod cred;
mod file;
mod mm;
mod task;

use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Makes the kfuncs known to BPF, for as long as the module is loaded.
pub(crate) fn register(module: &'static ThisModule) -> Result {
    // SAFETY: The module is being initialised, and this is called once.
    to_result(unsafe { bindings::kptr_defer_register_kfuncs(module.as_ptr()) }).inspect_err(|&e| {
        if e == ENOENT {
            pr_err!("the kernel has no BTF for this module, so BPF programs cannot use it\n");
            pr_err!("build it against a vmlinux with BTF: CONFIG_DEBUG_INFO_BTF_MODULES=y\n");
        } else {
            pr_err!("BPF refuses the kfuncs: {e:?}\n");
        }
    })
}
