// SPDX-License-Identifier: GPL-2.0

//! Makes the kernel's own release kfuncs safe in NMI, for every BPF program there is.
//!
//! ```text
//!   BPF program, in NMI
//!     bpf_task_release(task)
//!       └─ ftrace ─> the guard: is this the last reference?
//!                      no ──> give it back
//!                      yes ─> queue it, still held, in memory that the task has for its own death
//!                    leave out the function
//!                              ...
//!   hard irq: kptr_defer's drain ──> bpf_task_release_dtor(task)
//! ```
//!
//! - [`borrowed`]: why and how the last reference itself can be queued.
//! - [`task`], [`css`]: the two objects that this is done for.
//! - [`guarded`]: what stands before a function.
//! - [`functions`]: which functions.

use kernel::{
    fmt,
    prelude::*,
    sync::Arc,
    warn_on, //
};

mod abstractions;
mod bindings;
#[path = "../defer/borrowed.rs"]
mod borrowed;
mod counts;
mod css;
mod file;
mod functions;
mod guarded;
#[cfg(CONFIG_LIVEPATCH)]
mod livepatch;
mod task;

use abstractions::module_static::{
    Alive,
    ModuleStatic, //
};
use counts::Numbers;
use file::File;
use guarded::Guard;
#[cfg(CONFIG_LIVEPATCH)]
use livepatch::LivepatchWatch;

module! {
    type: KptrDeferGuard,
    name: "kptr_defer_guard",
    authors: ["The kptr_defer authors"],
    description: "Makes the kernel's release kfuncs safe in NMI",
    license: "GPL v2",
}

/// All functions that are guarded.
struct Guards(KVec<KBox<dyn Guard>>);

/// The one guard there is.
static GUARDS: ModuleStatic<Guards> = ModuleStatic::new();

impl Guards {
    fn iter(&self) -> impl Iterator<Item = &dyn Guard> {
        self.0.iter().map(|guard| &**guard)
    }

    fn numbers(&self) -> Numbers {
        let mut sum = Numbers::default();
        for guard in self.iter() {
            sum.add(&guard.numbers());
        }
        sum
    }
}

impl fmt::Display for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for guard in self.iter() {
            f.write_fmt(fmt!(" {}", guard.name()))?;
        }
        Ok(())
    }
}

struct KptrDeferGuard {
    guards: Arc<Alive<Guards>>,
    _file: File,
    #[cfg(CONFIG_LIVEPATCH)]
    _watch: LivepatchWatch,
}

impl kernel::Module for KptrDeferGuard {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let guards = functions::guard_all()?;
        if guards.is_empty() {
            pr_err!("nothing to guard\n");
            return Err(ENODEV);
        }
        let guards = Arc::new(GUARDS.init(Ok::<_, Error>(Guards(guards)))?, GFP_KERNEL)?;
        #[cfg(CONFIG_LIVEPATCH)]
        let watch = LivepatchWatch::new(guards.clone())?;
        pr_info!(
            "version {} loaded: guards{}\n",
            env!("KPTR_DEFER_VERSION"),
            guards.get(),
        );
        Ok(Self {
            _file: File::new(guards.clone()),
            #[cfg(CONFIG_LIVEPATCH)]
            _watch: watch,
            guards,
        })
    }
}

impl Drop for KptrDeferGuard {
    fn drop(&mut self) {
        for guard in self.guards.get().iter() {
            guard.detach();
        }
        let numbers = self.guards.get().numbers();
        pr_info!(
            "unloaded: calls={} nmi={} last_refs={} drained={}\n",
            numbers.calls,
            numbers.nmi,
            numbers.last_refs,
            numbers.drained
        );
        if warn_on!(numbers.last_refs != numbers.drained) {
            pr_err!(
                "lost {} last references\n",
                numbers.last_refs.wrapping_sub(numbers.drained)
            );
        }
    }
}
