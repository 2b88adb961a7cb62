// SPDX-License-Identifier: GPL-2.0

//! What there is besides the stack: boxes, CPUs, and what comes between.

use crate::{
    bindings::CPUS,
    Stack, //
};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    ptr::{
        self,
        NonNull, //
    },
};

pub(crate) const TWICE: &str = "one box is there twice";
pub(crate) const LOST: &str = "boxes are lost";

/// What the kernel does wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wrong {
    pub(crate) exchange_in_two_steps: bool,
    pub(crate) exchange_tells_nothing: bool,
}

/// What it does, and with what.
type Interrupt = (fn(&Stack), *const Stack);

#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) wrong: Wrong,
    pub(crate) cpu: usize,
    pub(crate) numbers: [Vec<u64>; CPUS],
    allocated: BTreeSet<usize>,
    held: BTreeSet<usize>,
    /// How often something may still come between, and what an interrupt does.
    interruptions: usize,
    interrupt: Option<Interrupt>,
    depth: usize,
    /// What has been chosen, of how many; and how far this way has come along it.
    chosen: Vec<(usize, usize)>,
    choices: usize,
    pub(crate) ways: u64,
    pub(crate) boxes: u64,
    pub(crate) popped: u64,
    pub(crate) missed: u64,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

pub(crate) fn with<T>(task: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(task)
}

impl World {
    pub(crate) fn allocate(&mut self) -> usize {
        self.boxes += 1;
        let address = 64 * self.boxes as usize;
        self.allocated.insert(address);
        address
    }

    pub(crate) fn free(&mut self, address: usize) {
        assert!(
            self.allocated.remove(&address) && !self.held.contains(&address),
            "{TWICE}"
        );
    }

    fn kept(&self) -> bool {
        let kept = |numbers: &Vec<u64>| numbers.iter().skip(1).any(|&cell| cell != 0);
        self.numbers.get(self.cpu).is_some_and(kept)
    }
}

/// One of so many, each in its turn.
pub(crate) fn choose(of: usize) -> usize {
    with(|world| {
        let at = world.choices;
        world.choices += 1;
        if at == world.chosen.len() {
            world.chosen.push((0, of));
        }
        world.chosen[at].0
    })
}

pub(crate) fn first_way() {
    with(|world| *world = World::default());
}

/// Whether there is another one.
pub(crate) fn next_way() -> bool {
    with(|world| {
        while let Some((chosen, of)) = world.chosen.pop() {
            if chosen + 1 < of {
                world.chosen.push((chosen + 1, of));
                return true;
            }
        }
        false
    })
}

pub(crate) fn begin(wrong: Wrong) {
    with(|world| {
        let World {
            chosen,
            ways,
            boxes,
            popped,
            missed,
            ..
        } = std::mem::take(world);
        *world = World {
            wrong,
            chosen,
            ways: ways + 1,
            boxes,
            popped,
            missed,
            ..World::default()
        };
    });
}

pub(crate) fn end() {
    with(|world| assert!(world.allocated.is_empty(), "{LOST}"));
}

pub(crate) fn summary() -> World {
    with(|world| world.clone())
}

pub(crate) fn set_interruptions(most: usize, interrupt: fn(&Stack), stack: &Stack) {
    with(|world| {
        world.interruptions = most;
        world.interrupt = Some((interrupt, ptr::from_ref(stack)));
    });
}

/// What may come before each step.
pub(crate) fn between() {
    if with(|world| world.interruptions) == 0 {
        return;
    }
    // Interrupts stay on their CPU.
    let ways = with(|world| if world.depth == 0 { 3 } else { 2 });
    match choose(ways) {
        0 => (),
        1 => {
            let interrupt = with(|world| {
                world.interruptions -= 1;
                world.depth += 1;
                world.interrupt
            });
            if let Some((interrupt, stack)) = interrupt {
                // SAFETY: The stack is there for as long as something may come between.
                interrupt(unsafe { &*stack });
            }
            with(|world| world.depth -= 1);
        }
        _ => with(|world| {
            world.interruptions -= 1;
            world.cpu = (world.cpu + 1) % CPUS;
        }),
    }
}

/// Somebody uses it from here on.
pub(crate) fn hold<T>(pointer: NonNull<T>) {
    with(|world| {
        world.popped += 1;
        let address = pointer.as_ptr().addr();
        assert!(
            world.allocated.contains(&address) && world.held.insert(address),
            "{TWICE}"
        );
    });
}

/// Nothing was popped.
pub(crate) fn miss() {
    with(|world| world.missed += u64::from(world.kept()));
}

/// Nobody uses them any more.
pub(crate) fn let_go(free: impl Fn(NonNull<u8>)) {
    for address in with(|world| std::mem::take(&mut world.held)) {
        if let Some(pointer) = NonNull::new(ptr::without_provenance_mut(address)) {
            free(pointer);
        }
    }
}
