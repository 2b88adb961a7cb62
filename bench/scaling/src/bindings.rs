// SPDX-License-Identifier: GPL-2.0

//! The C code that `abstractions/` and `defer/` call, on real atomics.

#![allow(non_camel_case_types, non_upper_case_globals)]

use crate::cpu::{
    self,
    CPUS, //
};
pub(crate) use kernel::workqueue::Queue as workqueue_struct;
use std::{
    ffi::c_char,
    ptr,
    sync::{
        atomic::{
            fence,
            AtomicPtr,
            AtomicU32,
            AtomicU64,
            Ordering::{
                Acquire,
                Relaxed,
                SeqCst, //
            }, //
        },
        LazyLock, //
    },
};

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

pub(crate) unsafe fn static_key_enable(_: *mut kptr_defer_key) {
    unreachable!("drops are deferred in NMI");
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

/// # Safety
///
/// It is valid.
unsafe fn first_of<'a>(head: *mut llist_head) -> &'a AtomicPtr<llist_node> {
    // SAFETY: The caller promises that it is. All access is by this.
    unsafe { AtomicPtr::from_ptr(&raw mut (*head).first) }
}

/// # Safety
///
/// Both are valid, and the node is the caller's alone.
#[inline(always)]
pub(crate) unsafe fn llist_add(node: *mut llist_node, head: *mut llist_head) -> bool {
    // SAFETY: The caller promises that it is valid.
    let list = unsafe { first_of(head) };
    let mut first = list.load(Relaxed);
    loop {
        // SAFETY: The caller promises that it is valid and not on the list yet.
        unsafe { (*node).next = first };
        match list.compare_exchange(first, node, SeqCst, Relaxed) {
            Ok(_) => return first.is_null(),
            Err(now) => first = now,
        }
    }
}

/// # Safety
///
/// It is valid.
pub(crate) unsafe fn llist_del_all(head: *mut llist_head) -> *mut llist_node {
    // SAFETY: The caller promises that it is.
    unsafe { first_of(head) }.swap(ptr::null_mut(), SeqCst)
}

/// # Safety
///
/// It is valid.
pub(crate) unsafe fn llist_empty(head: *mut llist_head) -> bool {
    // SAFETY: The caller promises that it is.
    unsafe { first_of(head) }.load(Relaxed).is_null()
}

/* kernel/irq_work.c */

#[repr(C)]
pub(crate) struct irq_work {
    func: Option<unsafe extern "C" fn(*mut irq_work)>,
    flags: AtomicU32,
}

const PENDING: u32 = 1;
const BUSY: u32 = 2;

/// # Safety
///
/// `work` can be written.
pub(crate) unsafe fn init_irq_work_in_interrupt(
    work: *mut irq_work,
    func: Option<unsafe extern "C" fn(*mut irq_work)>,
) {
    let flags = AtomicU32::new(0);
    // SAFETY: The caller promises that it can be.
    unsafe { work.write(irq_work { func, flags }) };
}

/// # Safety
///
/// It is initialised.
pub(crate) unsafe fn irq_work_queue(work: *mut irq_work) -> bool {
    // SAFETY: The caller promises that it is.
    if unsafe { &(*work).flags }.fetch_or(PENDING | BUSY, SeqCst) & PENDING != 0 {
        return false;
    }
    cpu::raise(work);
    true
}

/// As `irq_work_single()`.
pub(crate) fn run_irq_work(work: *mut irq_work) {
    // SAFETY: Whoever queues it keeps it until it has run.
    let irq_work { func, flags } = unsafe { &*work };
    let found = flags.load(Relaxed) & !PENDING;
    flags.store(found, Relaxed);
    fence(SeqCst);
    // SAFETY: This is the work that it has been initialised for.
    unsafe { func.expect("it is initialised")(work) };
    let _ = flags.compare_exchange(found, found & !BUSY, SeqCst, Relaxed);
}

/// # Safety
///
/// It is initialised.
pub(crate) unsafe fn irq_work_sync(work: *mut irq_work) {
    // SAFETY: The caller promises that it is.
    let flags = unsafe { &(*work).flags };
    assert_eq!(flags.load(Acquire), 0, "all threads have ended");
}

pub(crate) unsafe fn synchronize_rcu() {}

/* Workqueues: the budget is so large that no drain leaves anything to them. */

static WORKQUEUE: LazyLock<workqueue_struct> = LazyLock::new(workqueue_struct::new);

pub(crate) unsafe fn alloc_reclaim_workqueue(_: *const c_char) -> *mut workqueue_struct {
    ptr::from_ref(&*WORKQUEUE).cast_mut()
}

pub(crate) unsafe fn alloc_unbound_workqueue(_: *const c_char) -> *mut workqueue_struct {
    ptr::from_ref(&*WORKQUEUE).cast_mut()
}

pub(crate) unsafe fn destroy_workqueue(_: *mut workqueue_struct) {
    unreachable!("no engine is ever dropped");
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
    #[cfg(target_arch = "x86_64")]
    // SAFETY: All x86-64 processors have it.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    1
}

pub(crate) unsafe fn clock_ticks_to_ns(ticks: u64) -> u64 {
    ticks
}

pub(crate) unsafe fn cond_resched() {}

pub(crate) unsafe fn preempt_disable() {}

pub(crate) unsafe fn preempt_enable() {}

/* Per-CPU numbers: each thread writes its own. */

/// As many as are asked for, at most; no two CPUs' next to each other.
#[derive(Default)]
#[repr(align(128))]
struct Numbers([AtomicU64; 8]);

type PerCpu = [Numbers; CPUS];

pub(crate) unsafe fn alloc_percpu_u64(count: usize) -> usize {
    let numbers = Box::<PerCpu>::default();
    assert!(count <= numbers[0].0.len());
    ptr::from_ref(Box::leak(numbers)).expose_provenance()
}

#[inline(always)]
fn number(at: usize, cpu: usize) -> &'static AtomicU64 {
    // SAFETY: It comes from `alloc_percpu_u64`, perhaps with the offset of one of the numbers.
    unsafe { &*ptr::with_exposed_provenance(at + cpu * size_of::<Numbers>()) }
}

#[inline(always)]
pub(crate) unsafe fn this_cpu_inc_u64<const INDEX: usize>(at: usize) {
    let number = number(at + INDEX * size_of::<u64>(), cpu::number());
    number.store(number.load(Relaxed) + 1, Relaxed);
}

#[inline(always)]
pub(crate) unsafe fn this_cpu_write_u64<const INDEX: usize>(at: usize, value: u64) {
    number(at + INDEX * size_of::<u64>(), cpu::number()).store(value, Relaxed);
}

pub(crate) unsafe fn this_cpu_xchg_u64(at: usize, value: u64) -> u64 {
    let number = number(at, cpu::number());
    let before = number.load(Relaxed);
    number.store(value, Relaxed);
    before
}

pub(crate) unsafe fn percpu_sum_u64(at: usize) -> u64 {
    (0..CPUS).map(|cpu| number(at, cpu).load(Relaxed)).sum()
}

pub(crate) unsafe fn free_percpu_u64(at: usize) {
    // SAFETY: It comes from `alloc_percpu_u64`, and is given back once.
    drop(unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<PerCpu>(at)) });
}
