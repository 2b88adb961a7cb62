// SPDX-License-Identifier: GPL-2.0

//! Work in hard interrupt context.
//!
//! An [`IrqWork`] runs its [`Handler`] as soon as the CPU that queued it takes interrupts again.
//! Queueing works from any context, NMI included: that is what it is for.
//!
//! ```text
//!                queue()                       the CPU takes           run() returns
//!   idle ----------------------> pending -------------------> running --------------> idle
//!                                 |  ^                         |
//!                                 +--+ queue() is false        +-> queue(): pending again, on
//!                                                                  this or on another CPU
//! ```
//!
//! # It does not exclude itself
//!
//! A work that is running can be queued again, on another CPU too, where a second `run()` then
//! starts before the first has returned. A handler is therefore called through a shared reference
//! and has to be [`Sync`].
//!
//! `irq_work_sync()` waits until the work is neither pending nor marked as running; of two
//! overlapping runs the one that ends first takes that mark away. [`IrqWork::sync`] waits for the
//! other one, too: the kernel calls a handler with interrupts off, so that an RCU grace period
//! covers it to its last instruction.
//!
//! # PREEMPT_RT
//!
//! There, too, the handler runs in hard interrupt context (`IRQ_WORK_INIT_HARD()`), and can take
//! raw locks only. The plain kind runs in the `irq_work/N` thread of the CPU. That is parked before
//! the CPU goes offline: what an NMI queues there afterwards stays pending, and so cannot be queued
//! anywhere else, until the CPU comes back. What is queued in interrupts is flushed as one of the
//! last things that a CPU does (`smpcfd_dying_cpu()`); after that, nothing must be queued on it.
//!
//! C header: [`include/linux/irq_work.h`](srctree/include/linux/irq_work.h)

use crate::bindings;
use kernel::{
    container_of,
    prelude::*,
    types::Opaque, //
};

/// What an [`IrqWork`] runs.
pub trait Handler: Sync + 'static {
    /// Called in hard interrupt context, on `PREEMPT_RT`, too. May overlap with itself on another
    /// CPU.
    fn run(&self);
}

/// Links for running a [`Handler`] in hard interrupt context, and the handler itself.
///
/// Wraps the kernel's C `struct irq_work`. Dropping it waits until the handler has returned for the
/// last time, so it must be dropped where [`sync`](Self::sync) may be called.
///
/// # Examples
///
/// ```ignore
/// struct Wakeups(Atomic<u32>);
///
/// impl irq_work::Handler for Wakeups {
///     fn run(&self) {
///         self.0.fetch_add(1, Relaxed);
///     }
/// }
///
/// let work = KBox::pin_init(IrqWork::new(Wakeups(Atomic::new(0))), GFP_KERNEL)?;
/// work.queue(); // From here on, `Wakeups::run()` is on its way.
/// work.sync();
/// assert_eq!(work.handler().0.load(Relaxed), 1);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `work` is initialised, and its function is [`Self::run`].
#[pin_data(PinnedDrop)]
pub struct IrqWork<H: Handler> {
    #[pin]
    work: Opaque<bindings::irq_work>,
    #[pin]
    handler: H,
}

// SAFETY: A `struct irq_work` can be used from any CPU.
unsafe impl<H: Handler + Send> Send for IrqWork<H> {}
// SAFETY: All operations on a `struct irq_work` are atomic; the handler is `Sync`.
unsafe impl<H: Handler> Sync for IrqWork<H> {}

impl<H: Handler> IrqWork<H> {
    /// A work that runs `handler`.
    pub fn new<E>(handler: impl PinInit<H, E>) -> impl PinInit<Self, E>
    where
        E: From<core::convert::Infallible>,
    {
        // INVARIANT: `init_irq_work_in_interrupt()` initialises the work with `Self::run`.
        pin_init!(Self {
            handler <- handler,
            work <- Opaque::ffi_init(|work| {
                // SAFETY: `work` is valid for writes.
                unsafe { bindings::init_irq_work_in_interrupt(work, Some(Self::run)) }
            }),
        }? E)
    }

    /// Sees to it that the handler runs, on this CPU, from now on.
    ///
    /// Returns `false` if that was pending already. The handler that runs then sees everything that
    /// was written before the call in either case.
    ///
    /// Context: any.
    #[inline(always)]
    pub fn queue(&self) -> bool {
        // SAFETY: By the type invariant the work is initialised. It stays where it is, having been
        // initialised in place, until it has run for the last time: `drop` waits for that.
        unsafe { bindings::irq_work_queue(self.work.get()) }
    }

    /// Waits until every run that was queued before the call has returned.
    ///
    /// Context: process context with interrupts on; may sleep.
    pub fn sync(&self) {
        // SAFETY: By the type invariant the work is initialised.
        unsafe { bindings::irq_work_sync(self.work.get()) };
        // SAFETY: The caller is in process context. This is for the earlier one of two overlapping
        // runs, see the head of this file.
        unsafe { bindings::synchronize_rcu() };
    }

    /// The handler.
    #[inline(always)]
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// # Safety
    ///
    /// `work` is the `work` field of a pinned `Self`.
    unsafe extern "C" fn run(work: *mut bindings::irq_work) {
        let work = Opaque::cast_from(work);
        // SAFETY: By the safety requirement `work` is a field of `Self`, which `drop` keeps in
        // place until this has returned.
        let this = unsafe { &*container_of!(work, Self, work) };
        this.handler.run();
    }
}

#[pinned_drop]
impl<H: Handler> PinnedDrop for IrqWork<H> {
    fn drop(self: Pin<&mut Self>) {
        // Nobody can queue it any more; the handler is dropped after this.
        self.sync();
    }
}
