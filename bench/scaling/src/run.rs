// SPDX-License-Identifier: GPL-2.0

//! Threads that drop, one drop in each NMI.

use crate::{
    bindings::{
        kptr_defer_slot,
        llist_node, //
    },
    cpu::{
        self,
        CPUS, //
    },
    defer::{
        pending::{
            InHardIrq,
            PendingDrop, //
        },
        queue::Engine,
        when::DeferWhen, //
    },
    Result,
};
use pinned_init::InPlaceInit;
use std::{
    hint::spin_loop,
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    },
    sync::{
        atomic::{
            AtomicBool,
            AtomicU64,
            Ordering::{
                Acquire,
                Relaxed,
                Release, //
            }, //
        },
        Barrier, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

const DURATION: Duration = Duration::from_millis(10);

/// What a thread may have under way.
const OBJECTS: usize = 4096;

/// A number that one thread at a time changes.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Count {
    fn get(&self) -> u64 {
        self.0.load(Acquire)
    }

    fn add_one(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Release);
    }
}

#[repr(C)]
struct Object {
    slot: kptr_defer_slot,
    /// How many of its thread's objects have been dropped.
    done: *const Count,
}

/// # Safety
///
/// It is the slot of an object.
unsafe extern "C" fn drop_object(slot: *mut kptr_defer_slot) {
    // SAFETY: The slot is the first in it, and the count lives longer than what is under way.
    unsafe { &*(*slot.cast::<Object>()).done }.add_one();
}

/// What there is to be measured.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) threads: usize,
    /// One for all threads, or as many.
    pub(crate) queues: usize,
    /// By each thread.
    pub(crate) drops_per_second: u32,
}

/// What drops and their drains took, in nanoseconds: each drop since whose predecessor the other threads
/// have dropped, too, so that it finds the queue in their caches. What interrupts the threads shows in
/// few of these numbers.
pub(crate) fn nanoseconds(load: Load) -> Result<Vec<f64>> {
    let Load {
        threads, queues, ..
    } = load;
    assert!(threads <= CPUS && (queues == 1 || queues == threads));
    // Never dropped: that would wait for a kworker, and there is none.
    let engines = (0..queues)
        .map(|_| {
            <Box<Engine>>::try_pin_init(Engine::new(DeferWhen::Nmi, u32::MAX))
                .map(ManuallyDrop::new)
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|_| "no memory")?;
    let run = Run {
        load,
        together: Barrier::new(threads + 1),
        stop: AtomicBool::new(false),
        drops: Default::default(),
    };
    let workers = thread::scope(|scope| {
        let workers = (0..threads)
            .map(|number| {
                let (run, engine) = (&run, &**engines[number % queues]);
                scope.spawn(move || {
                    let placed = cpu::become_number(number).map_err(|err| err.to_string());
                    run.together.wait();
                    placed.map(|()| run.drop_until_stopped(engine))
                })
            })
            .collect::<Vec<_>>();
        run.together.wait();
        thread::sleep(DURATION);
        run.stop.store(true, Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().expect("it does not panic"))
            .collect::<std::result::Result<Vec<_>, _>>()
    });
    let dropped = run.drops.iter().map(Count::get).sum::<u64>();
    let drained = engines
        .iter()
        .map(|engine| engine.stats().drained())
        .sum::<u64>();
    if dropped != drained {
        return Err(format!("{dropped} were dropped, {drained} of them drained").into());
    }
    Ok(workers?.concat())
}

/// What the threads of a run share beside the queue.
struct Run {
    load: Load,
    together: Barrier,
    stop: AtomicBool,
    drops: [Count; CPUS],
}

impl Run {
    /// What the drops took that count. All have been drained when it returns.
    fn drop_until_stopped(&self, engine: &Engine) -> Vec<f64> {
        let done = Count::default();
        let mut objects = (0..OBJECTS)
            .map(|_| Object {
                slot: kptr_defer_slot {
                    node: llist_node {
                        next: ptr::null_mut(),
                    },
                    dtor: None,
                },
                done: &done,
            })
            .collect::<Vec<_>>();
        let objects = objects.as_mut_ptr();
        let mine = &self.drops[cpu::number()];
        let wait_until_under_way = |most| {
            while mine.get() - done.get() > most {
                spin_loop();
            }
        };
        let clock = clock_itself();
        let mut pace = Pace::new(self.load.drops_per_second);
        let mut others = self.others();
        let mut took = Vec::new();
        while !self.stop.load(Relaxed) {
            wait_until_under_way(OBJECTS as u64 - 1);
            // SAFETY: It is in there.
            let object = unsafe { objects.add(mine.get() as usize % OBJECTS) };
            // SAFETY: It is valid until all have been dropped, and not under way.
            let drop = unsafe {
                PendingDrop::<InHardIrq>::new(NonNull::new_unchecked(object).cast(), drop_object)
            };
            pace.wait();
            let before = others;
            others = self.others();
            let start = Instant::now();
            cpu::in_nmi(|| engine.give_back_in_nmi(drop));
            let elapsed = start.elapsed().saturating_sub(clock);
            if self.load.threads == 1 || others != before {
                took.push(elapsed.as_nanos() as f64);
            }
            mine.add_one();
        }
        wait_until_under_way(0);
        took
    }

    /// How often the others have dropped.
    fn others(&self) -> u64 {
        let all = self.drops[..self.load.threads].iter();
        all.map(Count::get).sum::<u64>() - self.drops[cpu::number()].get()
    }
}

/// What it takes to look at the clock: mostly.
fn clock_itself() -> Duration {
    let mut times = [(); 101].map(|()| Instant::now().elapsed());
    times.sort();
    times[times.len() / 2]
}

/// When to drop next: not in step with other threads.
struct Pace {
    mean: Duration,
    next: Instant,
    random: u64,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self {
            mean: Duration::from_secs(1) / per_second,
            next: Instant::now(),
            random: 1 + cpu::number() as u64,
        }
    }

    fn wait(&mut self) {
        let mut now = Instant::now();
        while now < self.next {
            spin_loop();
            now = Instant::now();
        }
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // Half of the mean to one and a half; what has been missed is not made up for.
        let factor = 0.5 + (self.random % 1024) as f64 / 1024.0;
        self.next = now + self.mean.mul_f64(factor);
    }
}
