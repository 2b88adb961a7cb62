// SPDX-License-Identifier: GPL-2.0

//! Hooks on the entry of kernel functions.
//!
//! A [`Hook`] is called before the functions that it is attached to, in whatever context they are called
//! in, and may change their argument, or what is called in their place.
//!
//! # Together with others
//!
//! A function may have any number of hooks, of which one at most [`REDIRECTS`](Hook::REDIRECTS):
//! that is how livepatches work, too (`FTRACE_OPS_FL_IPMODIFY`). BPF's fentry and fexit programs come
//! after all hooks, and then call what the hooks have redirected to.
//!
//! # Recursion
//!
//! A hook is called again if it runs into a function it is attached to. It is not left out for that
//! (no `FTRACE_OPS_FL_RECURSION`) unless ftrace does so for others at the function, so it has to be fit
//! for it.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

use super::kernel_function::KernelFunction;
use crate::bindings;
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::ManuallyDrop, //
};
use kernel::{
    container_of,
    error::to_result,
    ffi::c_ulong,
    prelude::*,
    types::Opaque,
    warn_on, //
};

/// What is called before some functions.
pub trait Hook: 'static {
    /// Whether it may call [`Call::redirect`].
    const REDIRECTS: bool;

    /// `ip` is somewhere in the function that is called.
    ///
    /// Context: any that the functions are called in.
    fn called(ip: usize, call: &mut Call);
}

/// A call of a function that has a hook, before it has begun.
///
/// # Invariants
///
/// It wraps the `struct ftrace_regs` of a call, with the function's arguments.
#[repr(transparent)]
pub struct Call(Opaque<bindings::ftrace_regs>);

impl Call {
    /// The function's first argument.
    #[inline(always)]
    pub fn argument(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::ftrace_regs_argument(self.0.get()) }
    }

    /// Replaces the function's first argument.
    ///
    /// # Safety
    ///
    /// The function may be called with that in place of what it has been called with.
    #[inline(always)]
    pub unsafe fn set_argument(&mut self, argument: usize) {
        // SAFETY: By the type invariant. The caller promises the rest.
        unsafe { bindings::ftrace_regs_set_argument(self.0.get(), argument) };
    }

    /// Where the call goes.
    #[inline(always)]
    pub fn destination(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::ftrace_regs_ip(self.0.get()) }
    }

    /// Calls something else in the function's place.
    ///
    /// # Safety
    ///
    /// The hook [`REDIRECTS`](Hook::REDIRECTS), and `destination` is a function that may be called in
    /// the other's place, with its arguments.
    #[inline(always)]
    pub unsafe fn redirect(&mut self, destination: usize) {
        // SAFETY: By the type invariant. The caller promises the rest.
        unsafe { bindings::ftrace_regs_set_ip(self.0.get(), destination) };
    }
}

/// Whether hooks may redirect on this CPU, with BPF's fexit programs on the same functions.
pub fn may_redirect() -> bool {
    // SAFETY: There are no requirements.
    unsafe { bindings::ftrace_may_redirect() }
}

/// Whether there can be hooks on a function: `EINVAL` if not.
///
/// Context: process context, may sleep.
pub fn check(function: KernelFunction) -> Result {
    struct Nothing;

    impl Hook for Nothing {
        const REDIRECTS: bool = false;

        fn called(_ip: usize, _call: &mut Call) {}
    }

    Ops::<Nothing>::new([function]).map(drop)
}

/// For ftrace, what to call before which functions. While it is registered it must not be dropped.
///
/// # Invariants
///
/// `ops` are initialised, with [`Self::called`] for the functions.
#[pin_data(PinnedDrop)]
struct Ops<H: Hook> {
    #[pin]
    ops: Opaque<bindings::ftrace_ops>,
    /// Until then the hook is not called: ftrace may call what it then refuses to register.
    is_registered: UnsafeCell<bool>,
    _hook: PhantomData<H>,
}

impl<H: Hook> Ops<H> {
    fn new(functions: impl IntoIterator<Item = KernelFunction>) -> Result<Pin<KBox<Self>>> {
        // INVARIANT: They have no functions yet.
        let this = KBox::pin_init(
            pin_init!(Self {
                ops <- Opaque::ffi_init(|ops| {
                    // SAFETY: `ops` is valid for writes.
                    unsafe { bindings::ftrace_ops_init(ops, Some(Self::called), H::REDIRECTS) }
                }),
                is_registered: UnsafeCell::new(false),
                _hook: PhantomData,
            }),
            GFP_KERNEL,
        )?;
        // For ftrace none means all that there are.
        let mut filtered = Err(EINVAL);
        for function in functions {
            // SAFETY: The ops are initialised.
            filtered = to_result(unsafe {
                bindings::ftrace_set_filter_ip(this.ops.get(), function.address(), 0, 0)
            });
            filtered?;
        }
        filtered.map(|()| this)
    }

    /// Once.
    fn register(&self) -> Result {
        // SAFETY: The ops are initialised, and stay where they are until they are unregistered.
        to_result(unsafe { bindings::register_ftrace_function(self.ops.get()) })?;
        // SAFETY: Nobody else writes it, and who reads it, does so in one step.
        unsafe { self.is_registered.get().write_volatile(true) };
        Ok(())
    }

    /// # Safety
    ///
    /// For ftrace only: `ops` are those of a `Self`, `regs` is that of a call.
    unsafe extern "C" fn called(
        ip: c_ulong,
        _parent_ip: c_ulong,
        ops: *mut bindings::ftrace_ops,
        regs: *mut bindings::ftrace_regs,
    ) {
        let ops = Opaque::cast_from(ops);
        // SAFETY: By the safety requirement; ftrace does not use ops that are gone.
        let this = unsafe { &*container_of!(ops, Self, ops) };
        // SAFETY: It is written in one step.
        if !unsafe { this.is_registered.get().read_volatile() } {
            return;
        }
        // INVARIANT: The caller promises that.
        // SAFETY: ftrace lends it to its callbacks, one after the other; the wrapper is transparent.
        H::called(ip, unsafe { &mut *regs.cast::<Call>() });
    }
}

#[pinned_drop]
impl<H: Hook> PinnedDrop for Ops<H> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The ops are initialised, and not registered.
        unsafe { bindings::ftrace_free_filter(self.ops.get()) };
    }
}

/// A hook that is attached to functions, until this is dropped.
///
/// # Invariants
///
/// The ops are registered.
pub struct Attachment<H: Hook>(ManuallyDrop<Pin<KBox<Ops<H>>>>);

// SAFETY: It can be detached from any thread.
unsafe impl<H: Hook> Send for Attachment<H> {}

impl<H: Hook> Attachment<H> {
    /// Attaches the hook to all of them, at once.
    ///
    /// `EINVAL` if there is none, or one that cannot have hooks; `EBUSY` if it redirects, and there is
    /// another one at a function that does; or if the sysctl `kernel.ftrace_enabled` is off, which cannot
    /// be turned off while there are hooks. If it redirects, and BPF has trampolines at a function,
    /// whatever their change fails with: `EAGAIN`, after a millisecond, if BPF is busy with them.
    ///
    /// Context: process context, may sleep.
    pub fn new(functions: impl IntoIterator<Item = KernelFunction>) -> Result<Self> {
        let ops = Ops::new(functions)?;
        if let Err(err) = ops.register() {
            // It may have been on ftrace's list for a moment, which is walked without a lock.
            // SAFETY: This is process context.
            unsafe { bindings::synchronize_rcu() };
            return Err(err);
        }
        // INVARIANT: As just done.
        Ok(Self(ManuallyDrop::new(ops)))
    }
}

impl<H: Hook> Drop for Attachment<H> {
    /// Waits for the calls of the hook that are under way, and for what they have redirected to. May
    /// sleep.
    fn drop(&mut self) {
        // SAFETY: By the type invariant the ops are registered.
        let err = unsafe { bindings::unregister_ftrace_function(self.0.ops.get()) };
        // Only ftrace itself being broken makes this fail. It keeps them then.
        if !warn_on!(err != 0) {
            // SAFETY: This is done once. They are not registered any more.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}
