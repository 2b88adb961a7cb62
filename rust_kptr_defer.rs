// SPDX-License-Identifier: GPL-2.0

//! Gives back references from any context, NMI included.
//!
//! ```text
//!  NMI                                          hard irq                           process context
//!  ───                                          ────────                           ───────────────
//!  release kfunc, destructor, kptr_defer_drop()
//!    in NMI? ── no ──> run the drop here
//!      │ yes
//!      └─> add to the list ─ was empty? ─> irq_work ──> drain, oldest first,
//!                                                       budget spent, RT,
//!                                                       or may sleep? ───────────> workqueue
//! ```
//!
//! - [`objects`]: what BPF programs can hold, one file for each kind.
//! - [`defer`]: the engine, which gets a drop from where it cannot run to where it can.
//! - [`abstractions`]: of the kernel's `irq_work`, `llist` and so on; nothing in there is ours.
//! - `shim/`: what has to be C.

use kernel::{
    prelude::*,
    sync::Arc,
    warn_on, //
};

mod abstractions;
mod bindings;
mod defer;
mod objects;

use abstractions::{
    module_static::Alive,
    rcu, //
};
use defer::{
    queue::Engine,
    stats_file::StatsFile,
    when::DeferWhen,
    ENGINE, //
};
use objects::reserve::{
    Reserve,
    RESERVE, //
};

module! {
    type: KptrDefer,
    name: "kptr_defer",
    authors: ["The kptr_defer authors"],
    description: "Gives back references from any context, NMI included",
    license: "GPL v2",
    params: {
        budget: u32 {
            default: 256,
            description: "Drops in one hard interrupt; the rest goes to a workqueue",
        },
    },
}

struct KptrDefer {
    engine: Arc<Alive<Engine>>,
    _reserve: Alive<Reserve>,
    _stats: StatsFile,
}

/// Kernel code that was built with it may call the C API whatever became of this: it has to start.
const BUILT_IN: bool = cfg!(not(MODULE));

/// What else has failed has said so. Only a module can be given up for that.
fn unless_built_in<T>(result: Result<T>, otherwise: T) -> Result<T> {
    result.or_else(|err| if BUILT_IN { Ok(otherwise) } else { Err(err) })
}

fn budget_from_param() -> Result<u32> {
    // A reference before Linux 7.3, a value since.
    let budget = u32::clone(&module_parameters::budget.value());
    if budget == 0 {
        pr_err!("budget=0: a hard interrupt has to do one drop at least\n");
        return Err(EINVAL);
    }
    Ok(budget)
}

fn start(when: DeferWhen, budget: u32) -> Result<(Arc<Alive<Engine>>, Alive<Reserve>)> {
    when.enable();
    let engine = Arc::new(ENGINE.init(Engine::new(when, budget))?, GFP_KERNEL)?;
    let reserve = RESERVE.init(Reserve::new(engine.clone()))?;
    Ok((engine, reserve))
}

impl kernel::Module for KptrDefer {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let when = unless_built_in(DeferWhen::from_param(), DeferWhen::Nmi)?;
        let budget = unless_built_in(budget_from_param(), 1)?;
        let (engine, reserve) = match start(when, budget) {
            Err(err) if BUILT_IN => panic!("kptr_defer: no memory: {err:?}"),
            started => started?,
        };
        // The last that can fail: what has been handed out by then, nobody can use before the module
        // is live. An open file would stay.
        unless_built_in(objects::register(module), ())?;
        let stats = StatsFile::new(engine.clone());

        pr_info!(
            "version {} loaded: defer_when={} budget={}\n",
            env!("KPTR_DEFER_VERSION"),
            when.name(),
            budget,
        );
        Ok(Self {
            engine,
            _reserve: reserve,
            _stats: stats,
        })
    }
}

impl Drop for KptrDefer {
    fn drop(&mut self) {
        let engine = self.engine.get();
        engine.barrier();
        // Handles that have been drained may wait for readers, and then be queued once more.
        rcu::barrier();
        engine.barrier();

        let stats = engine.stats();
        let (deferred, drained) = (stats.deferred(), stats.drained());
        pr_info!(
            "unloaded: inline={} deferred={} drained={} acquire_failed={}\n",
            stats.inline(),
            deferred,
            drained,
            stats.acquire_failed(),
        );
        if warn_on!(deferred != drained || stats.handles_live() != 0) {
            pr_err!(
                "lost {} deferred drops, {} handles are live\n",
                deferred.wrapping_sub(drained),
                stats.handles_live(),
            );
        }
    }
}
