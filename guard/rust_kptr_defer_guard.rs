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
//! - [`guarded`]: what is done before a function.
//! - [`attached`]: how the function is left out then.
//! - [`functions`]: which functions.

use kernel::{
    fmt,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    warn_on, //
};

mod abstractions;
mod attached;
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
use attached::Attached;
use counts::Numbers;
use file::File;
use functions::Places;
use guarded::{
    cannot_attach,
    Guard, //
};
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
#[pin_data(PinnedDrop)]
struct Guards {
    guards: KVec<KBox<dyn Guard>>,
    places: Places,
    #[pin]
    attached: Mutex<Option<Attached>>,
}

/// The one guard there is.
static GUARDS: ModuleStatic<Guards> = ModuleStatic::new();

impl Guards {
    /// Says which cannot be guarded.
    fn find() -> Result<impl PinInit<Self, Error>> {
        let guards = functions::find_all()?;
        let mut places = Places::default();
        for guard in guards.iter() {
            places[guard.index()] = Some(guard.function());
        }
        Ok(try_pin_init!(Self {
            guards,
            places,
            attached <- new_mutex!(None),
        }? Error))
    }

    fn iter(&self) -> impl Iterator<Item = &dyn Guard> {
        self.guards.iter().map(|guard| &**guard)
    }

    /// From here on they are guarded. May sleep.
    fn attach(&self) -> Result {
        // Livepatches that come meanwhile wait.
        let mut attached = self.attached.lock();
        let new = if self.guards.is_empty() {
            Err(ENODEV)
        } else {
            // SAFETY: `self` is those, and not dropped before it is detached.
            unsafe { Attached::new(&self.places) }.inspect_err(|err| {
                for guard in self.iter() {
                    cannot_attach(guard.name(), *err);
                }
            })
        };
        *attached = Some(new.inspect_err(|_| pr_err!("nothing to guard\n"))?);
        Ok(())
    }

    /// From here on livepatches of the functions can be loaded. May sleep.
    #[cfg(CONFIG_LIVEPATCH)]
    fn give_way(&self) -> Result {
        match &mut *self.attached.lock() {
            Some(attached) => attached.give_way(&self.places),
            None => Ok(()),
        }
    }

    /// Returns when all that has been caught has been given back. May sleep.
    fn detach(&self) {
        drop(self.attached.lock().take());
        // SAFETY: This is process context.
        unsafe { bindings::kptr_defer_barrier() };
    }

    fn numbers(&self) -> Numbers {
        let mut sum = Numbers::default();
        for guard in self.iter() {
            sum.add(&guard.numbers());
        }
        sum
    }
}

#[pinned_drop]
impl PinnedDrop for Guards {
    fn drop(self: Pin<&mut Self>) {
        // What is dropped after this is what draining needs.
        self.detach();
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
        let guards = Arc::new(GUARDS.init(Guards::find()?)?, GFP_KERNEL)?;
        #[cfg(CONFIG_LIVEPATCH)]
        let watch = LivepatchWatch::new(guards.clone())?;
        guards.get().attach()?;
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
        self.guards.get().detach();
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
