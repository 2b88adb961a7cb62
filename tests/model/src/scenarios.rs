// SPDX-License-Identifier: GPL-2.0

//! What CPUs do at once, and the drain beside it. Each scenario tells how often the object has been
//! queued.

use crate::{
    bindings::drain,
    nmi,
    object::{
        Found,
        Manner, //
    },
};
use loom::thread;

type OnCpu = Box<dyn FnOnce()>;

/// Each on a CPU of its own.
fn beside_the_drain<const N: usize>(cpus: [OnCpu; N]) {
    let cpus = cpus.map(thread::spawn);
    // SAFETY: Objects keep their memory until the model is done. Nobody else drains meanwhile.
    unsafe { drain() };
    for cpu in cpus {
        cpu.join().unwrap();
    }
}

fn acquire_and_drop<M: Manner>(object: &Found<M>) {
    if let Some(held) = object.acquire() {
        held.drop_in_nmi();
    }
}

pub(crate) fn two_drop<M: Manner>() -> u32 {
    let (object, [one, other]) = Found::<M>::new();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(|| other.drop_in_nmi()),
    ]);
    object.ends()
}

pub(crate) fn three_drop<M: Manner>() -> u32 {
    let (object, [one, another, third]) = Found::<M>::new();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(|| another.drop_in_nmi()),
        Box::new(|| third.drop_in_nmi()),
    ]);
    object.ends()
}

pub(crate) fn one_drops_one_comes_and_goes<M: Manner>() -> u32 {
    let (object, [one]) = Found::<M>::new();
    let found = object.clone();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(move || acquire_and_drop(&found)),
    ]);
    object.ends()
}

pub(crate) fn two_come_and_go_while_queued<M: Manner>() -> u32 {
    let (object, [one]) = Found::<M>::new();
    let found = [object.clone(), object.clone()];
    one.drop_in_nmi();
    beside_the_drain(found.map(|found| -> OnCpu { Box::new(move || acquire_and_drop(&found)) }));
    object.ends()
}

pub(crate) fn one_comes_and_goes_twice_while_queued<M: Manner>() -> u32 {
    let (object, [one]) = Found::<M>::new();
    let found = object.clone();
    one.drop_in_nmi();
    beside_the_drain([Box::new(move || {
        acquire_and_drop(&found);
        acquire_and_drop(&found);
    })]);
    object.ends()
}

pub(crate) fn one_drops_outside_nmi<M: Manner>() -> u32 {
    let (object, [one, other]) = Found::<M>::new();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(|| other.drop_elsewhere()),
    ]);
    object.ends()
}

pub(crate) fn one_drops_outside_nmi_one_comes_and_goes<M: Manner>() -> u32 {
    let (object, [one, other]) = Found::<M>::new();
    let found = object.clone();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(|| other.drop_elsewhere()),
        Box::new(move || acquire_and_drop(&found)),
    ]);
    object.ends()
}

pub(crate) fn two_objects<M: Manner>() -> u32 {
    let (object, [one, other]) = Found::<M>::new();
    let (second_object, [its_only]) = Found::<M>::new();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(|| {
            its_only.drop_in_nmi();
            other.drop_in_nmi();
        }),
    ]);
    object.ends() + second_object.ends()
}

/// The NMI takes a reference, and drops it.
pub(crate) fn nmi_in_a_drop<M: Manner>() -> u32 {
    let (object, [one, other]) = Found::<M>::new();
    let found = object.clone();
    beside_the_drain([
        Box::new(move || {
            nmi::will_come(move || acquire_and_drop(&found));
            one.drop_in_nmi();
        }),
        Box::new(|| other.drop_in_nmi()),
    ]);
    object.ends()
}

/// As [`nmi_in_a_drop`], on the CPU that drains.
pub(crate) fn nmi_in_the_drain<M: Manner>() -> u32 {
    let (object, [one]) = Found::<M>::new();
    let [here, elsewhere] = [object.clone(), object.clone()];
    one.drop_in_nmi();
    nmi::will_come(move || acquire_and_drop(&here));
    beside_the_drain([Box::new(move || acquire_and_drop(&elsewhere))]);
    object.ends()
}

/// One drops, and a work item takes the object offline.
pub(crate) fn idle_memory_used_before<M: Manner>() -> u32 {
    let (object, [one, work]) = Found::<M>::new();
    let found = object.clone();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(move || {
            found.use_idle_memory();
            work.drop_elsewhere();
        }),
    ]);
    object.ends()
}

/// As [`idle_memory_used_before`], but when the reference is gone.
pub(crate) fn idle_memory_used_without_reference<M: Manner>() -> u32 {
    let (object, [one, work]) = Found::<M>::new();
    let found = object.clone();
    beside_the_drain([
        Box::new(|| one.drop_in_nmi()),
        Box::new(move || {
            work.drop_elsewhere();
            found.use_idle_memory();
        }),
    ]);
    object.ends()
}
