// SPDX-License-Identifier: GPL-2.0

//! Threads that drop as fast as they can, one drop in each NMI.

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

/// Short, so that now and then nothing comes between even on a busy machine.
const DURATION: Duration = Duration::from_millis(3);

/// What a thread may have under way.
const OBJECTS: usize = 4096;

/// How many of a thread's objects have been dropped: by one drainer at a time.
#[repr(align(128))]
struct Done(AtomicU64);

#[repr(C)]
struct Object {
    slot: kptr_defer_slot,
    done: *const Done,
}

/// # Safety
///
/// It is the slot of an object.
unsafe extern "C" fn drop_object(slot: *mut kptr_defer_slot) {
    // SAFETY: The slot is the first in it, and the count lives longer than the engine.
    let done = unsafe { &(*(*slot.cast::<Object>()).done).0 };
    done.store(done.load(Relaxed) + 1, Release);
}

/// How much of the time the threads have to run, all of them, for a run to count.
const UNDISTURBED: f64 = 0.95;

/// What a drop and its drain take a thread, if all threads really ran all the time.
pub(crate) fn nanoseconds_per_drop(threads: usize, queues: usize) -> Result<Option<f64>> {
    assert!(threads <= CPUS && (queues == 1 || queues == threads));
    // Never dropped: that would wait for a kworker, and there is none.
    let engines = (0..queues)
        .map(|_| {
            <Box<Engine>>::try_pin_init(Engine::new(DeferWhen::Nmi, u32::MAX))
                .map(ManuallyDrop::new)
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|_| "no memory")?;
    let together = Barrier::new(threads + 1);
    let stop = AtomicBool::new(false);
    let (elapsed, workers) = thread::scope(|scope| {
        let workers = (0..threads)
            .map(|number| {
                let engine = &**engines[number % queues];
                let (together, stop) = (&together, &stop);
                scope.spawn(move || {
                    let placed = cpu::become_number(number).map_err(|err| err.to_string());
                    together.wait();
                    placed.map(|()| {
                        let start = cpu::time();
                        (drop_until(engine, stop), cpu::time() - start)
                    })
                })
            })
            .collect::<Vec<_>>();
        together.wait();
        let start = Instant::now();
        thread::sleep(DURATION);
        stop.store(true, Relaxed);
        let workers = workers
            .into_iter()
            .map(|worker| worker.join().expect("it does not panic"))
            .collect::<std::result::Result<Vec<_>, _>>();
        (start.elapsed(), workers)
    });
    let workers = workers?;
    let dropped = workers.iter().map(|(dropped, _)| dropped).sum::<u64>();
    let drained = engines
        .iter()
        .map(|engine| engine.stats().drained())
        .sum::<u64>();
    if dropped != drained {
        return Err(format!("{dropped} were dropped, {drained} of them drained").into());
    }
    let ran = workers.iter().map(|(_, time)| *time).sum::<Duration>();
    let undisturbed = ran >= elapsed.mul_f64(threads as f64 * UNDISTURBED);
    Ok(undisturbed.then(|| ran.as_nanos() as f64 / dropped as f64))
}

/// Tells how many it has dropped; all have been drained then.
fn drop_until(engine: &Engine, stop: &AtomicBool) -> u64 {
    let done = Done(AtomicU64::new(0));
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
    let mut dropped = 0;
    let wait_until_under_way = |dropped: u64, most: u64| {
        while dropped - done.0.load(Acquire) > most {
            spin_loop();
        }
    };
    while !stop.load(Relaxed) {
        wait_until_under_way(dropped, OBJECTS as u64 - 1);
        // SAFETY: It is in there.
        let object = unsafe { objects.add(dropped as usize % OBJECTS) };
        // SAFETY: It is valid until all have been dropped, and not under way.
        let drop = unsafe {
            PendingDrop::<InHardIrq>::new(NonNull::new_unchecked(object).cast(), drop_object)
        };
        cpu::in_nmi(|| engine.give_back_in_nmi(drop));
        dropped += 1;
    }
    wait_until_under_way(dropped, 0);
    dropped
}
