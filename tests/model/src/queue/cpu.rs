// SPDX-License-Identifier: GPL-2.0

//! A CPU: to loom it is a thread. What interrupts it is called from inside that.

use crate::{
    bindings::{
        irq_work,
        run_irq_work, //
    },
    nmi,
};
use std::{
    cell::{
        Cell,
        RefCell, //
    },
    collections::VecDeque,
};

loom::thread_local! {
    static IN_NMI: Cell<bool> = Cell::new(false);
    static IN_IRQ: Cell<bool> = Cell::new(false);
    static HAS_LOOKED: Cell<bool> = Cell::new(false);
    static RAISED: RefCell<VecDeque<*mut irq_work>> = RefCell::new(VecDeque::new());
}

pub(crate) fn is_in_nmi() -> bool {
    IN_NMI.with(Cell::get)
}

/// An NMI that comes now.
pub(crate) fn in_nmi<R>(handler: impl FnOnce() -> R) -> R {
    let before = IN_NMI.with(|in_nmi| in_nmi.replace(true));
    let result = handler();
    IN_NMI.with(|in_nmi| in_nmi.set(before));
    take_interrupts();
    result
}

/// One that comes at any place in what follows.
pub(crate) fn nmi_will_come(handler: impl FnOnce() + 'static) {
    nmi::will_come(|| in_nmi(handler));
}

/// Has this CPU interrupt itself.
pub(crate) fn raise(work: *mut irq_work) {
    RAISED.with(|raised| raised.borrow_mut().push_back(work));
    take_interrupts();
}

/// What is raised in an interrupt comes after it.
fn take_interrupts() {
    if is_in_nmi() || IN_IRQ.with(|in_irq| in_irq.replace(true)) {
        return;
    }
    while let Some(work) = RAISED.with(|raised| raised.borrow_mut().pop_front()) {
        nmi::may_come();
        run_irq_work(work);
        nmi::may_come();
    }
    IN_IRQ.with(|in_irq| in_irq.set(false));
}

/// A handler begins, which has not looked at the list yet.
pub(crate) fn has_not_looked() {
    HAS_LOOKED.with(|has_looked| has_looked.set(false));
}

pub(crate) fn looks_for_the_first_time() -> bool {
    !HAS_LOOKED.with(|has_looked| has_looked.replace(true))
}
