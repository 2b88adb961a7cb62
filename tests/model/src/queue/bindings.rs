// SPDX-License-Identifier: GPL-2.0

//! The C code that `abstractions/` and `defer/` call, on loom.

#![allow(non_camel_case_types, non_upper_case_globals)]

use crate::{
    cpu,
    nmi, //
};
pub(crate) use kernel::workqueue::Queue as workqueue_struct;
use kernel::{
    shadow,
    sync::atomic::full, //
};
use loom::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{
        self,
        AcqRel,
        Acquire,
        Relaxed,
        Release, //
    },
};
use std::{
    ffi::c_char,
    ptr,
    sync::{
        atomic::{
            self,
            AtomicU64, //
        },
        Arc,
        Mutex, //
    },
};

/// What a check may have wrong with these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weakened {
    /// `llist_add()` does not release what was written before.
    pub add_is_relaxed: bool,
    /// `llist_add()` is no full barrier.
    pub add_is_release: bool,
    /// It tells that the list was empty only when it had been drained once.
    pub first_is_not_told: bool,
    /// `llist_del_all()` does not acquire what is on the list.
    pub take_is_relaxed: bool,
    /// An interrupt looks at the list once, and not again when it has put down the baton.
    pub looks_once: bool,
    /// `irq_work_queue()` and the start of a run order nothing.
    pub irq_work_is_relaxed: bool,
    /// A work that has been queued cannot be queued again before it has returned.
    pub irq_work_is_pending_while_it_runs: bool,
}

static WEAKENED: Mutex<Option<Weakened>> = Mutex::new(None);

/// For all that comes.
pub(crate) fn weaken(weakened: Weakened) {
    *WEAKENED.lock().unwrap() = Some(weakened);
}

fn weakened() -> Weakened {
    WEAKENED.lock().unwrap().unwrap_or_default()
}

/* include/kptr_defer.h */

#[repr(C)]
pub(crate) struct kptr_defer_slot {
    pub(crate) node: llist_node,
    pub(crate) dtor: Option<unsafe extern "C" fn(*mut kptr_defer_slot)>,
}

pub(crate) static mut kptr_defer_when: *const c_char = c"nmi".as_ptr();

pub(crate) struct kptr_defer_key {
    pub(crate) key: bool,
}

pub(crate) static mut kptr_defer_not_only_in_nmi: kptr_defer_key = kptr_defer_key { key: false };

/// # Safety
///
/// It is valid.
pub(crate) unsafe fn static_key_enable(key: *mut kptr_defer_key) {
    // SAFETY: The caller promises that it is; nothing uses it yet.
    unsafe { (*key).key = true };
}

/* include/linux/llist.h */

#[repr(C)]
pub(crate) struct llist_node {
    pub(crate) next: *mut llist_node,
}

#[repr(C)]
pub(crate) struct llist_head {
    pub(crate) first: *mut llist_node,
}

fn first_of(head: *mut llist_head) -> Arc<AtomicPtr<llist_node>> {
    shadow::of(head, || AtomicPtr::new(ptr::null_mut()))
}

/// # Safety
///
/// Both are valid, and the node is the caller's alone.
pub(crate) unsafe fn llist_add(node: *mut llist_node, head: *mut llist_head) -> bool {
    let list = first_of(head);
    nmi::may_come();
    let mut first = list.load(Relaxed);
    loop {
        // SAFETY: The caller promises that it is valid and not on the list yet.
        unsafe { (*node).next = first };
        nmi::may_come();
        let add = |success: Ordering| list.compare_exchange(first, node, success, Relaxed);
        let added = match weakened() {
            Weakened {
                add_is_relaxed: true,
                ..
            } => add(Relaxed),
            Weakened {
                add_is_release: true,
                ..
            } => add(Release),
            _ => full(add),
        };
        match added {
            Ok(_) => break,
            Err(now) => first = now,
        }
    }
    nmi::may_come();
    first.is_null() && !weakened().first_is_not_told
}

/// # Safety
///
/// It is valid.
pub(crate) unsafe fn llist_del_all(head: *mut llist_head) -> *mut llist_node {
    nmi::may_come();
    let take = |order| first_of(head).swap(ptr::null_mut(), order);
    let all = if weakened().take_is_relaxed {
        take(Relaxed)
    } else {
        full(take)
    };
    nmi::may_come();
    all
}

/// # Safety
///
/// It is valid.
pub(crate) unsafe fn llist_empty(head: *mut llist_head) -> bool {
    nmi::may_come();
    let is_empty = first_of(head).load(Relaxed).is_null();
    nmi::may_come();
    is_empty || weakened().looks_once && !cpu::looks_for_the_first_time()
}

/* kernel/irq_work.c */

#[repr(C)]
pub(crate) struct irq_work {
    func: Option<unsafe extern "C" fn(*mut irq_work)>,
}

const PENDING: u32 = 1;
const BUSY: u32 = 2;

fn flags_of(work: *mut irq_work) -> Arc<AtomicU32> {
    shadow::of(work, || AtomicU32::new(0))
}

/// # Safety
///
/// `work` can be written.
pub(crate) unsafe fn init_irq_work_in_interrupt(
    work: *mut irq_work,
    func: Option<unsafe extern "C" fn(*mut irq_work)>,
) {
    // SAFETY: The caller promises that it can be.
    unsafe { work.write(irq_work { func }) };
}

/// # Safety
///
/// It is initialised.
pub(crate) unsafe fn irq_work_queue(work: *mut irq_work) -> bool {
    nmi::may_come();
    let claim = |order| flags_of(work).fetch_or(PENDING | BUSY, order);
    let before = if weakened().irq_work_is_relaxed {
        claim(Relaxed)
    } else {
        full(claim)
    };
    nmi::may_come();
    if before & PENDING != 0 {
        return false;
    }
    cpu::raise(work);
    true
}

/// As `irq_work_single()`.
pub(crate) fn run_irq_work(work: *mut irq_work) {
    let flags = flags_of(work);
    let starts = |order| flags.fetch_and(!PENDING, order) & !PENDING;
    let found = match weakened() {
        Weakened {
            irq_work_is_relaxed: true,
            ..
        } => starts(Relaxed),
        Weakened {
            irq_work_is_pending_while_it_runs: true,
            ..
        } => PENDING | BUSY,
        _ => full(starts),
    };
    cpu::has_not_looked();
    nmi::may_come();
    // SAFETY: Whoever queues it keeps it until it has run.
    unsafe { (*work).func.expect("it is initialised")(work) };
    nmi::may_come();
    let _ = flags.compare_exchange(found, 0, AcqRel, Acquire);
}

/// # Safety
///
/// It is initialised.
pub(crate) unsafe fn irq_work_sync(work: *mut irq_work) {
    assert_eq!(
        flags_of(work).load(Acquire),
        0,
        "no CPU is left that could run it"
    );
}

pub(crate) unsafe fn synchronize_rcu() {}

/* Workqueues: one kworker runs all. */

loom::lazy_static! {
    static ref WORKQUEUE: workqueue_struct = workqueue_struct::new();
}

pub(crate) fn workqueue() -> &'static workqueue_struct {
    &WORKQUEUE
}

pub(crate) unsafe fn alloc_reclaim_workqueue(_: *const c_char) -> *mut workqueue_struct {
    ptr::from_ref(workqueue()).cast_mut()
}

pub(crate) unsafe fn alloc_unbound_workqueue(_: *const c_char) -> *mut workqueue_struct {
    ptr::from_ref(workqueue()).cast_mut()
}

pub(crate) unsafe fn destroy_workqueue(queue: *mut workqueue_struct) {
    // SAFETY: It is that one.
    unsafe { workqueue_struct::from_raw(queue) }.run_all(|| true);
}

pub(crate) unsafe fn flush_work(_: *mut u8) {
    unreachable!("nothing here waits for a work item");
}

/* The context. */

pub(crate) unsafe fn in_nmi() -> bool {
    cpu::is_in_nmi()
}

pub(crate) unsafe fn irqs_disabled() -> bool {
    cpu::is_in_nmi()
}

pub(crate) unsafe fn clock_ticks() -> u64 {
    1
}

pub(crate) unsafe fn clock_ticks_to_ns(ticks: u64) -> u64 {
    ticks
}

pub(crate) unsafe fn cond_resched() {}

pub(crate) unsafe fn preempt_disable() {}

pub(crate) unsafe fn preempt_enable() {}

/* Per-CPU numbers: nothing is ordered by them. */

/// As many as are asked for, at most.
type Numbers = [AtomicU64; 8];

pub(crate) unsafe fn alloc_percpu_u64(count: usize) -> usize {
    let numbers = Box::<Numbers>::default();
    assert!(count <= numbers.len());
    ptr::from_ref(Box::leak(numbers)).expose_provenance()
}

fn number(at: usize) -> &'static AtomicU64 {
    // SAFETY: It comes from `alloc_percpu_u64`.
    unsafe { &*ptr::with_exposed_provenance(at) }
}

pub(crate) unsafe fn this_cpu_inc_u64<const INDEX: usize>(at: usize) {
    number(at + INDEX * size_of::<u64>()).fetch_add(1, atomic::Ordering::Relaxed);
}

pub(crate) unsafe fn this_cpu_write_u64<const INDEX: usize>(at: usize, value: u64) {
    number(at + INDEX * size_of::<u64>()).store(value, atomic::Ordering::Relaxed);
}

pub(crate) unsafe fn this_cpu_xchg_u64(at: usize, value: u64) -> u64 {
    number(at).swap(value, atomic::Ordering::Relaxed)
}

pub(crate) unsafe fn percpu_sum_u64(at: usize) -> u64 {
    number(at).load(atomic::Ordering::Relaxed)
}

pub(crate) unsafe fn free_percpu_u64(at: usize) {
    // SAFETY: It comes from `alloc_percpu_u64`, and is given back once.
    drop(unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<Numbers>(at)) });
}
