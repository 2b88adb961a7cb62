// SPDX-License-Identifier: GPL-2.0

//! When a drop is deferred: the module parameter `defer_when=`.

use crate::{
    abstractions::{
        context::irqs_disabled,
        static_key::static_branch_unlikely, //
    },
    bindings, //
};
use kernel::prelude::*;

/// The contexts in which drops are deferred.
#[derive(Clone, Copy)]
pub(crate) enum DeferWhen {
    /// In NMI, where hardly a release function of the kernel may run.
    Nmi,
    /// Also with interrupts off, as mainline decides: a tracing program may be called from inside
    /// `call_rcu()` or under a lock without an NMI.
    IrqsOff,
    /// Everywhere. For tests.
    Always,
}

impl DeferWhen {
    const NAMES: [(&'static str, Self); 3] = [
        ("nmi", Self::Nmi),
        ("irqsoff", Self::IrqsOff),
        ("always", Self::Always),
    ];

    /// What the module parameter says.
    pub(crate) fn from_param() -> Result<Self> {
        // SAFETY: The parameter is set before the module is initialised, and not writable later; it
        // points to a string that lives as long as the module.
        let given = unsafe { CStr::from_char_ptr(bindings::kptr_defer_when) };
        Self::NAMES
            .iter()
            .find(|(name, _)| name.as_bytes() == given.to_bytes())
            .map(|(_, when)| *when)
            .ok_or_else(|| {
                pr_err!("defer_when={given:?} is none of nmi, irqsoff, always\n");
                EINVAL
            })
    }

    /// The parameter's value for this.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nmi => "nmi",
            Self::IrqsOff => "irqsoff",
            Self::Always => "always",
        }
    }

    /// Has [`not_only_in_nmi`](Self::not_only_in_nmi) tell about this.
    ///
    /// Context: process context, may sleep.
    pub(crate) fn enable(self) {
        if !matches!(self, Self::Nmi) {
            // SAFETY: It is a static key.
            unsafe { bindings::static_key_enable(&raw mut bindings::kptr_defer_not_only_in_nmi) };
        }
    }

    /// Whether drops are deferred elsewhere, too. What is usual costs a nop.
    #[inline(always)]
    pub(crate) fn not_only_in_nmi() -> bool {
        // SAFETY: It is a static key, defined by C.
        unsafe {
            static_branch_unlikely!(
                bindings::kptr_defer_not_only_in_nmi,
                bindings::kptr_defer_key,
                key
            )
        }
    }

    /// Whether a drop is to be deferred in this context, which is not NMI: there it always is.
    #[inline(always)]
    pub(crate) fn is_now_outside_nmi(self) -> bool {
        match self {
            Self::Nmi => false,
            Self::IrqsOff => irqs_disabled(),
            Self::Always => true,
        }
    }
}
