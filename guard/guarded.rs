// SPDX-License-Identifier: GPL-2.0

//! A function of the kernel that the guard stands before.
//!
//! Every call of it passes [`Guarded::give_back`]. Outside NMI that lets it pass. In NMI it gives the
//! reference back itself, or puts it on the queue if it is the last, so that nothing is left for the
//! function to do. How the function is then left out depends on who else is there:
//!
//! - [`Return`] sends the call to a function that returns at once. Others on the function see it as it
//!   is. But a livepatch of the function could not be loaded then: both redirect it, and ftrace allows
//!   one to. And on CPUs with IBT a redirected function must not have BPF's fexit programs.
//! - [`StandIn`] lets the call go on, to a livepatch for example, with a reference to something that
//!   stands in for the object, and that it may give back as often as it likes. Others on the function
//!   see the stand-in.

use crate::{
    abstractions::{
        context::in_nmi,
        ftrace::{
            may_redirect,
            Attachment,
            Call,
            Hook, //
        },
        kernel_function::KernelFunction,
        module_static::{
            Alive,
            ModuleStatic, //
        },
    },
    bindings::{
        self,
        kptr_defer_slot, //
    },
    borrowed::{
        Last,
        LastReference, //
    },
    counts::{
        Counts,
        Numbers, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    },
};

/// What a function gives back a reference to.
///
/// # Safety
///
/// [`lend`](Self::lend) makes a stand-in fit for one call of a release function for this argument.
pub(crate) unsafe trait Argument: 'static {
    /// What is counted.
    type Object: LastReference;

    /// What giving back the last reference runs.
    const WOULD_RUN: &'static CStr;

    /// Called before a function that takes such an argument is guarded.
    fn prepare() -> Result {
        Ok(())
    }

    /// The object with the count.
    ///
    /// # Safety
    ///
    /// The argument is valid.
    unsafe fn object(argument: NonNull<Self>) -> NonNull<Self::Object>;

    /// Memory for a stand-in, from `kmalloc()`; null if there is none.
    fn new_stand_in() -> *mut Self;

    /// Gives the stand-in a reference to be given back.
    ///
    /// # Safety
    ///
    /// It is a stand-in.
    unsafe fn lend(_stand_in: NonNull<Self>) {}
}

/// A release function: gives back a reference to its argument, and does nothing else.
///
/// # Safety
///
/// The function of this name does, and takes a pointer to an [`Argument`](Self::Argument).
pub(crate) unsafe trait Function: Sized + Unpin + 'static {
    type Argument: Argument;

    const NAME: &'static CStr;

    fn guarded() -> &'static ModuleStatic<Guarded<Self>>;
}

/// Something that can be given back any number of times.
///
/// # Invariants
///
/// It comes from [`Argument::new_stand_in`].
struct StandInFor<A: Argument + ?Sized>(NonNull<A>);

impl<A: Argument + ?Sized> Drop for StandInFor<A> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it comes from `kmalloc()`; nobody has it any more.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

/// What is kept of a guarded function.
#[pin_data(PinnedDrop)]
pub(crate) struct Guarded<F: Function> {
    function: KernelFunction,
    counts: Counts,
    has_caught: Atomic<bool>,
    stand_in: StandInFor<F::Argument>,
    #[pin]
    attached: Mutex<Option<Attached<F>>>,
}

// SAFETY: The stand-in is used from any context, by atomic operations only.
unsafe impl<F: Function> Send for Guarded<F> {}
// SAFETY: As above.
unsafe impl<F: Function> Sync for Guarded<F> {}

/// A way of leaving out the function.
enum Attached<F: Function> {
    Return(#[expect(dead_code)] Attachment<Return<F>>),
    StandIn(#[expect(dead_code)] Attachment<StandIn<F>>),
}

struct Return<F>(PhantomData<F>);

struct StandIn<F>(PhantomData<F>);

/// Where [`Return`] redirects to: any function without arguments can be called with some.
extern "C" fn return_at_once() {}

impl<F: Function> Hook for Return<F> {
    const REDIRECTS: bool = true;

    #[inline(always)]
    fn called(call: &mut Call) {
        // SAFETY: The function is guarded for as long as the hook is attached.
        if unsafe { F::guarded().get() }.give_back(call) {
            // SAFETY: This hook redirects. The reference that the call is about has been given back,
            // and there is nothing else to be done.
            unsafe { call.redirect(return_at_once as usize) };
        }
    }
}

impl<F: Function> Hook for StandIn<F> {
    const REDIRECTS: bool = false;

    #[inline(always)]
    fn called(call: &mut Call) {
        // SAFETY: The function is guarded for as long as the hook is attached.
        let guarded = unsafe { F::guarded().get() };
        if guarded.give_back(call) {
            let stand_in = guarded.stand_in.0;
            // SAFETY: It is one.
            unsafe { F::Argument::lend(stand_in) };
            // SAFETY: A reference to the stand-in has just been made for this.
            unsafe { call.set_argument(stand_in.addr().get()) };
        }
    }
}

impl<F: Function> Guarded<F> {
    fn new(function: KernelFunction) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            function,
            counts: Counts::new()?,
            has_caught: Atomic::new(false),
            // INVARIANT: It comes from there.
            stand_in: StandInFor(NonNull::new(F::Argument::new_stand_in()).ok_or(ENOMEM)?),
            attached <- new_mutex!(None),
        }? Error)
    }

    /// The reference that a call is about has been given back with this; or not, then the call has to
    /// do it.
    ///
    /// Context: any.
    #[inline(always)]
    fn give_back(&self, call: &Call) -> bool {
        self.counts.calls.inc();
        if !in_nmi() || self.is_given_back(call) {
            return false;
        }
        self.counts.nmi.inc();
        let Some(argument) = NonNull::new(call.argument() as *mut F::Argument) else {
            return false;
        };
        // SAFETY: It is what the function is called with.
        let object = unsafe { F::Argument::object(argument) };
        // SAFETY: Whoever calls the function owns a reference and gives it up. The function will not
        // do that: it is left out.
        if let Some(last) = unsafe { Last::of(object) } {
            self.counts.last_refs.inc();
            // SAFETY: Two C strings, and a pointer that is only looked at.
            unsafe {
                bindings::trace_last_ref(
                    F::NAME.as_char_ptr(),
                    argument.as_ptr().cast(),
                    F::Argument::WOULD_RUN.as_char_ptr(),
                )
            };
            // SAFETY: `drained` takes it from there. Dropping `self` waits for it.
            unsafe { last.queue(Self::drained) };
        }
        true
    }

    /// While one way of leaving out the function takes over from the other, both are attached.
    #[inline(always)]
    fn is_given_back(&self, call: &Call) -> bool {
        call.destination() == return_at_once as usize
            || call.argument() == self.stand_in.0.addr().get()
    }

    /// # Safety
    ///
    /// `slot` comes from [`Last::queue`]; the function is guarded.
    unsafe extern "C" fn drained(slot: *mut kptr_defer_slot) {
        // SAFETY: Slots are not at null. This is called once for each that has been queued.
        let last = unsafe {
            Last::<<F::Argument as Argument>::Object>::from_queue(NonNull::new_unchecked(slot))
        };
        // SAFETY: The function is guarded.
        let this = unsafe { F::guarded().get() };
        if !this.has_caught.xchg(true, Relaxed) {
            pr_info!(
                "{}() gave back a last reference in NMI: caught, it would have run {}() there\n",
                F::NAME,
                F::Argument::WOULD_RUN
            );
        }
        last.put();
        this.counts.drained.inc();
    }

    /// May sleep. Returns when all that has been caught has been given back.
    fn detach(&self) {
        drop(self.attached.lock().take());
        // SAFETY: This is process context.
        unsafe { bindings::kptr_defer_barrier() };
    }

    fn attach(&self) -> Result {
        let redirect = if may_redirect() {
            Attachment::new(self.function)
        } else {
            Err(EPERM)
        };
        let attached = match redirect {
            Ok(redirect) => Attached::Return(redirect),
            Err(EBUSY | EAGAIN | EPERM) => {
                let stand_in = Attached::StandIn(Attachment::new(self.function)?);
                if redirect.is_err_and(|err| err == EBUSY) {
                    pr_info!("gives way to what redirects {}() already\n", F::NAME);
                }
                stand_in
            }
            Err(err) => return Err(err),
        };
        *self.attached.lock() = Some(attached);
        Ok(())
    }
}

#[pinned_drop]
impl<F: Function> PinnedDrop for Guarded<F> {
    fn drop(self: Pin<&mut Self>) {
        // What is dropped after this is what draining needs.
        self.detach();
    }
}

/// A function that is guarded for as long as this lives.
pub(crate) trait Guard: Send + Sync {
    fn name(&self) -> &'static CStr;

    fn numbers(&self) -> Numbers;

    /// From here on a livepatch of the function can be loaded. May sleep.
    #[cfg(CONFIG_LIVEPATCH)]
    fn give_way(&self) -> Result;

    /// Ends it: returns when all that has been caught has been given back. May sleep.
    fn detach(&self);
}

impl<F: Function> Guard for Alive<Guarded<F>> {
    fn name(&self) -> &'static CStr {
        F::NAME
    }

    fn numbers(&self) -> Numbers {
        self.get().counts.numbers()
    }

    #[cfg(CONFIG_LIVEPATCH)]
    fn give_way(&self) -> Result {
        let mut attached = self.get().attached.lock();
        if let Some(Attached::Return(_)) = *attached {
            // The new one is there before the old one goes.
            let stand_in = Attachment::new(self.get().function)?;
            *attached = Some(Attached::StandIn(stand_in));
        }
        Ok(())
    }

    fn detach(&self) {
        self.get().detach();
    }
}

/// Guards a function. Says so if it cannot.
pub(crate) fn guard<F: Function>() -> Result<KBox<dyn Guard>> {
    let cannot = |err: &Error| {
        if *err == ENOENT {
            pr_warn!("{}() is not guarded: not in this kernel\n", F::NAME);
        } else {
            pr_warn!(
                "{}() is not guarded: cannot attach to it ({err:?})\n",
                F::NAME
            );
        }
    };
    let function = KernelFunction::find(F::NAME).inspect_err(cannot)?;
    F::Argument::prepare().inspect_err(|_| {
        pr_warn!(
            "{}() is not guarded: no way to drain what it would catch\n",
            F::NAME
        );
    })?;
    let guarded = F::guarded()
        .init(Guarded::new(function))
        .inspect_err(cannot)?;
    let guarded = KBox::new(guarded, GFP_KERNEL).inspect_err(|_| cannot(&ENOMEM))?;
    guarded.get().attach().inspect_err(cannot)?;
    Ok(guarded)
}
