// SPDX-License-Identifier: GPL-2.0

//! What CPUs do at once, and a kworker beside them. Each scenario tells who drained.

use crate::{
    bindings::{
        self,
        workqueue, //
    },
    cpu,
    defer::{
        pending::{
            InHardIrq,
            InProcess, //
        },
        queue::{
            Engine,
            Lane, //
        },
        when::DeferWhen,
    },
    object::{
        object,
        LaneNumber,
        Tally,
        CPUS, //
    },
};
use kernel::sync::atomic;
use loom::thread;
use pinned_init::InPlaceInit;
use std::{
    fmt,
    ptr::NonNull,
    sync::{
        atomic::{
            AtomicBool,
            Ordering::Relaxed, //
        },
        Arc, //
    },
};

/// Who has drained: interrupts, and work items.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Drained {
    pub(crate) by_irq_work: u64,
    pub(crate) by_work_item: u64,
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.by_irq_work, self.by_work_item)
    }
}

/// With something wrong.
pub(crate) fn with(
    bindings: bindings::Weakened,
    atomic: atomic::Weakened,
    scenario: fn() -> Drained,
) -> Drained {
    bindings::weaken(bindings);
    atomic::weaken(atomic);
    scenario()
}

/// The engine, as a CPU has it.
#[derive(Clone)]
struct Cpu {
    engine: &'static Engine,
    tally: Arc<Tally>,
    number: usize,
}

impl Cpu {
    fn defer<C: Lane + LaneNumber>(&self, number: u32) {
        let deferred = self
            .engine
            .give_back::<C>(object(&self.tally, self.number, number));
        assert!(deferred);
    }

    fn drop_in_nmi(&self, number: u32) {
        cpu::in_nmi(|| self.defer::<InHardIrq>(number));
    }
}

type OnCpu = fn(&Cpu);

/// Each on a CPU of its own, the last one on this; everything that they give back is dropped, once, in
/// order.
fn on_cpus<const N: usize>(budget: u32, cpus: [OnCpu; N]) -> Drained {
    let engine = <Box<Engine>>::try_pin_init(Engine::new(DeferWhen::Nmi, budget)).unwrap();
    let tally = Arc::new(Tally::default());
    let cpu = |number| Cpu {
        // SAFETY: All threads are joined before it is dropped.
        engine: unsafe { NonNull::from(&*engine).as_ref() },
        tally: tally.clone(),
        number,
    };
    // Whatever is used has been there before the threads.
    cpu(CPUS - 1).drop_in_nmi(1);
    cpu(CPUS - 1).defer::<InProcess>(1);
    workqueue().run_all(|| true);

    let is_done = Arc::new(AtomicBool::new(false));
    let kworker = thread::spawn({
        let is_done = is_done.clone();
        move || workqueue().run_all(|| is_done.load(Relaxed))
    });
    let mut threads = Vec::new();
    for (number, on_cpu) in cpus.into_iter().enumerate() {
        let cpu = cpu(number);
        if number + 1 < N {
            threads.push(thread::spawn(move || on_cpu(&cpu)));
        } else {
            on_cpu(&cpu);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    engine.barrier();

    let stats = engine.stats();
    let drained = Drained {
        by_irq_work: stats.irq_work_runs.get(),
        by_work_item: stats.in_hard_irq.workqueue_runs.get()
            + stats.in_process.workqueue_runs.get(),
    };
    assert_eq!(tally.dropped.load(Relaxed), tally.given_back.load(Relaxed));
    assert_eq!(stats.drained(), stats.deferred());
    drop(engine);
    is_done.store(true, Relaxed);
    workqueue().wake();
    kworker.join().unwrap();
    drained
}

pub(crate) fn two_drop() -> Drained {
    on_cpus(100, [|cpu| cpu.drop_in_nmi(1), |cpu| cpu.drop_in_nmi(1)])
}

pub(crate) fn two_drop_twice() -> Drained {
    let twice: OnCpu = |cpu| {
        cpu.drop_in_nmi(1);
        cpu.drop_in_nmi(2);
    };
    on_cpus(100, [twice, twice])
}

pub(crate) fn two_in_one_nmi() -> Drained {
    on_cpus(
        100,
        [
            |cpu| {
                cpu::in_nmi(|| {
                    cpu.defer::<InHardIrq>(1);
                    cpu.defer::<InHardIrq>(2);
                });
            },
            |cpu| cpu.drop_in_nmi(1),
        ],
    )
}

pub(crate) fn nmi_anywhere() -> Drained {
    on_cpus(
        100,
        [
            |cpu| {
                let nmi = Cpu {
                    number: 2,
                    ..cpu.clone()
                };
                cpu::nmi_will_come(move || nmi.defer::<InHardIrq>(1));
                cpu.drop_in_nmi(1);
                cpu.drop_in_nmi(2);
            },
            |cpu| cpu.drop_in_nmi(1),
        ],
    )
}

pub(crate) fn over_budget() -> Drained {
    on_cpus(
        1,
        [
            |cpu| {
                cpu::in_nmi(|| {
                    cpu.defer::<InHardIrq>(1);
                    cpu.defer::<InHardIrq>(2);
                });
            },
            |cpu| cpu.drop_in_nmi(1),
        ],
    )
}

pub(crate) fn barrier() -> Drained {
    on_cpus(
        100,
        [
            |cpu| {
                cpu.drop_in_nmi(1);
                cpu.engine.barrier();
                assert!(cpu.tally.dropped_of(0) == 1, "the barrier did not wait");
            },
            |cpu| cpu.drop_in_nmi(1),
        ],
    )
}

pub(crate) fn sleepable() -> Drained {
    on_cpus(
        100,
        [
            |cpu| {
                cpu.defer::<InProcess>(1);
                cpu.defer::<InProcess>(2);
            },
            |cpu| cpu.defer::<InProcess>(1),
        ],
    )
}
