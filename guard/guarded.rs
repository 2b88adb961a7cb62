// SPDX-License-Identifier: GPL-2.0

//! A function of the kernel that the guard stands before.
//!
//! Every call of it passes [`Guarded::give_back`]. Outside NMI that lets it pass. In NMI it gives the
//! reference back itself, or puts it on the queue if it is the last, so that nothing is left for the
//! function to do: it is left out, see [`attached`](crate::attached).

use crate::{
    abstractions::{
        context::in_nmi,
        ftrace::{
            self,
            Call, //
        },
        kernel_function::KernelFunction,
        module_static::{
            Alive,
            ModuleStatic, //
        },
    },
    attached::return_at_once,
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
        Numbers,
        CALLS,
        DRAINED,
        LAST_REFS,
        NMI, //
    },
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    str::CStr,
    sync::atomic::{
        Atomic,
        Relaxed, //
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

    /// Which of all.
    const INDEX: usize;

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
pub(crate) struct Guarded<F: Function> {
    function: KernelFunction,
    counts: Counts,
    has_caught: Atomic<bool>,
    stand_in: StandInFor<F::Argument>,
}

// SAFETY: The stand-in is used from any context, by atomic operations only.
unsafe impl<F: Function> Send for Guarded<F> {}
// SAFETY: As above.
unsafe impl<F: Function> Sync for Guarded<F> {}

impl<F: Function> Guarded<F> {
    fn new(function: KernelFunction) -> Result<Self> {
        Ok(Self {
            function,
            counts: Counts::new()?,
            has_caught: Atomic::new(false),
            // INVARIANT: It comes from there.
            stand_in: StandInFor(NonNull::new(F::Argument::new_stand_in()).ok_or(ENOMEM)?),
        })
    }

    /// The reference that a call is about has been given back with this; or not, then the call has to
    /// do it.
    ///
    /// Context: any.
    #[inline(always)]
    pub(crate) fn give_back(&self, call: &Call) -> bool {
        self.counts.count::<CALLS>();
        if !in_nmi() || self.is_given_back(call) {
            return false;
        }
        self.counts.count::<NMI>();
        let Some(argument) = NonNull::new(call.argument() as *mut F::Argument) else {
            return false;
        };
        // SAFETY: It is what the function is called with.
        let object = unsafe { F::Argument::object(argument) };
        // SAFETY: Whoever calls the function owns a reference and gives it up. The function will not
        // do that: it is left out.
        if let Some(last) = unsafe { Last::of(object) } {
            self.counts.count::<LAST_REFS>();
            // SAFETY: Two C strings, and a pointer that is only looked at.
            unsafe {
                bindings::trace_last_ref(
                    F::NAME.as_char_ptr(),
                    argument.as_ptr().cast(),
                    F::Argument::WOULD_RUN.as_char_ptr(),
                )
            };
            // SAFETY: `drained` takes it from there. What detaches the guard waits for it.
            unsafe { last.queue(Self::drained) };
        }
        true
    }

    /// A stand-in, with a reference to be given back.
    ///
    /// Context: any.
    #[inline(always)]
    pub(crate) fn lent_stand_in(&self) -> usize {
        // SAFETY: It is one.
        unsafe { F::Argument::lend(self.stand_in.0) };
        self.stand_in.0.addr().get()
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
        this.counts.count::<DRAINED>();
    }
}

/// A function that can be guarded for as long as this lives.
pub(crate) trait Guard: Send + Sync {
    fn name(&self) -> &'static CStr;

    /// Which of all.
    fn index(&self) -> usize;

    fn function(&self) -> KernelFunction;

    fn numbers(&self) -> Numbers;
}

impl<F: Function> Guard for Alive<Guarded<F>> {
    fn name(&self) -> &'static CStr {
        F::NAME
    }

    fn index(&self) -> usize {
        F::INDEX
    }

    fn function(&self) -> KernelFunction {
        self.get().function
    }

    fn numbers(&self) -> Numbers {
        self.get().counts.numbers()
    }
}

/// Finds a function, with all that is needed to guard it. Says so if it cannot be.
pub(crate) fn find<F: Function>() -> Result<KBox<dyn Guard>> {
    let function = KernelFunction::find(F::NAME).inspect_err(|err| {
        if *err == ENOENT {
            pr_warn!("{}() is not guarded: not in this kernel\n", F::NAME);
        } else {
            cannot_attach(F::NAME, *err);
        }
    })?;
    F::Argument::prepare().inspect_err(|_| {
        pr_warn!(
            "{}() is not guarded: no way to drain what it would catch\n",
            F::NAME
        );
    })?;
    let found = || -> Result<KBox<dyn Guard>> {
        ftrace::check(function)?;
        let guarded = F::guarded().init(Guarded::new(function))?;
        Ok(KBox::new(guarded, GFP_KERNEL)?)
    };
    found().inspect_err(|err| cannot_attach(F::NAME, *err))
}

/// Says so.
pub(crate) fn cannot_attach(name: &CStr, err: Error) {
    pr_warn!("{name}() is not guarded: cannot attach to it ({err:?})\n");
}
