// SPDX-License-Identifier: GPL-2.0

//! A CPU is a thread.

use crate::{
    bindings::{
        irq_work,
        run_irq_work, //
    },
    Result,
};
use std::{
    cell::Cell,
    io,
    mem,
    ptr, //
};

/// As many as there can be.
pub(crate) const CPUS: usize = 8;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    static IN_NMI: Cell<bool> = const { Cell::new(false) };
    static RAISED: Cell<*mut irq_work> = const { Cell::new(ptr::null_mut()) };
}

/// Makes the current thread that CPU, on a processor of its own.
pub(crate) fn become_number(number: usize) -> Result<()> {
    NUMBER.set(number);
    // SAFETY: All zeroes is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: It is a set of that size.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed) } < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: It is below the size of the set.
    let processor = (0..libc::CPU_SETSIZE as usize)
        .filter(|&processor| unsafe { libc::CPU_ISSET(processor, &allowed) })
        .nth(number)
        .ok_or("there are more threads than processors")?;
    // SAFETY: As above.
    let mut own: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: As above.
    unsafe { libc::CPU_SET(processor, &mut own) };
    // SAFETY: As above.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&own), &own) } < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

pub(crate) fn number() -> usize {
    NUMBER.get()
}

pub(crate) fn is_in_nmi() -> bool {
    IN_NMI.get()
}

/// Runs `handler` as an NMI, and after it the interrupt that it has raised.
pub(crate) fn in_nmi(handler: impl FnOnce()) {
    IN_NMI.set(true);
    handler();
    IN_NMI.set(false);
    let work = RAISED.replace(ptr::null_mut());
    if !work.is_null() {
        run_irq_work(work);
    }
}

/// There is one for each engine, and a thread uses one engine.
pub(crate) fn raise(work: *mut irq_work) {
    RAISED.set(work);
    if !is_in_nmi() {
        in_nmi(|| ());
    }
}
