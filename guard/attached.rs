// SPDX-License-Identifier: GPL-2.0

//! How the guard stands before the functions, and leaves them out.
//!
//! One hook is attached to all of them: to attach and to detach costs ftrace a look at every function of
//! the kernel, and waiting for every task, however many they are. Which hook depends on who else is there:
//!
//! - [`Return`] sends the call to a function that returns at once. Others on the function see it as it
//!   is. But a livepatch of the function could not be loaded then: both redirect it, and ftrace allows
//!   one to. And on CPUs with IBT a redirected function must not have BPF's fexit programs.
//! - [`StandIn`] lets the call go on, to a livepatch for example, with a reference to something that
//!   stands in for the object, and that it may give back as often as it likes. Others on the function
//!   see the stand-in.

use crate::{
    abstractions::{
        ftrace::{
            may_redirect,
            Attachment,
            Call,
            Hook, //
        },
        kernel_function::KernelFunction, //
    },
    functions::{
        leave_out,
        Places, //
    },
    guarded::{
        Function,
        Guarded, //
    },
    GUARDS,
};
use kernel::prelude::*;

/// The hook that is there.
pub(crate) enum Attached {
    Return(#[expect(dead_code)] Attachment<Return>),
    StandIn(#[expect(dead_code)] Attachment<StandIn>),
}

impl Attached {
    /// May sleep.
    ///
    /// # Safety
    ///
    /// These are the places of [`GUARDS`], which are alive for as long as this.
    pub(crate) unsafe fn new(places: &Places) -> Result<Self> {
        let functions = || places.iter().flatten().copied();
        let err = match may_redirect().then(|| attach_patiently(functions)) {
            Some(Ok(redirect)) => return Ok(Attached::Return(redirect)),
            Some(Err(err)) => Some(err),
            None => None,
        };
        // This one asks nothing of anybody else.
        let stand_in = Attachment::new(functions())?;
        match err {
            Some(EBUSY) => pr_info!("gives way to what redirects one of them already\n"),
            Some(err) => pr_info!("redirects none of them: {err:?}\n"),
            None => (),
        }
        Ok(Attached::StandIn(stand_in))
    }

    /// From here on others can redirect the functions, whose places it was made with. May sleep.
    #[cfg(CONFIG_LIVEPATCH)]
    pub(crate) fn give_way(&mut self, places: &Places) -> Result {
        if let Attached::Return(_) = self {
            // The new one is there before the old one goes.
            *self = Attached::StandIn(Attachment::new(places.iter().flatten().copied())?);
        }
        Ok(())
    }
}

/// Other programs come and go meanwhile, for which BPF changes its trampolines.
fn attach_patiently<H: Hook, I>(functions: impl Fn() -> I) -> Result<Attachment<H>>
where
    I: Iterator<Item = KernelFunction>,
{
    const MS: usize = 50;

    for _ in 1..MS {
        match Attachment::new(functions()) {
            Err(EAGAIN) => (),
            result => return result,
        }
    }
    Attachment::new(functions())
}

/// A way of leaving out a function.
pub(crate) trait LeavesOut {
    fn leave_out<F: Function>(guarded: &Guarded<F>, call: &mut Call);
}

pub(crate) enum Return {}

pub(crate) enum StandIn {}

/// Where [`Return`] redirects to: any function without arguments can be called with some.
pub(crate) extern "C" fn return_at_once() {}

impl LeavesOut for Return {
    #[inline(always)]
    fn leave_out<F: Function>(guarded: &Guarded<F>, call: &mut Call) {
        if guarded.give_back(call) {
            // SAFETY: This hook redirects. The reference that the call is about has been given back,
            // and there is nothing else to be done.
            unsafe { call.redirect(return_at_once as usize) };
        }
    }
}

impl Hook for Return {
    const REDIRECTS: bool = true;

    #[inline(always)]
    fn called(ip: usize, call: &mut Call) {
        // SAFETY: `Attached::new` has been promised that they are alive, and with them what is guarded.
        unsafe { leave_out::<Self>(&GUARDS.get().places, ip, call) };
    }
}

impl LeavesOut for StandIn {
    #[inline(always)]
    fn leave_out<F: Function>(guarded: &Guarded<F>, call: &mut Call) {
        if guarded.give_back(call) {
            // SAFETY: It has a reference that was made for this call.
            unsafe { call.set_argument(guarded.lent_stand_in()) };
        }
    }
}

impl Hook for StandIn {
    const REDIRECTS: bool = false;

    #[inline(always)]
    fn called(ip: usize, call: &mut Call) {
        // SAFETY: As above.
        unsafe { leave_out::<Self>(&GUARDS.get().places, ip, call) };
    }
}
