// SPDX-License-Identifier: GPL-2.0

//! When a drop is deferred: the module parameter `defer_when=`.

use crate::{
    abstractions::context::{
        in_nmi,
        irqs_disabled, //
    },
    bindings,
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

    /// Whether a drop in this context is to be deferred.
    #[inline(always)]
    pub(crate) fn is_now(self) -> bool {
        match self {
            Self::Nmi => in_nmi(),
            Self::IrqsOff => irqs_disabled() || in_nmi(),
            Self::Always => true,
        }
    }
}
