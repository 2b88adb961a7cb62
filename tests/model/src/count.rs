// SPDX-License-Identifier: GPL-2.0

//! `refcount_t` with its memory orders (`include/linux/refcount.h`, `lib/refcount.c`).

use crate::nmi;
use loom::sync::atomic::{
    fence, AtomicU32,
    Ordering::{
        Acquire,
        Relaxed,
        Release, //
    },
};

pub(crate) struct Count(pub(crate) AtomicU32);

/// Nobody may give back what nobody holds.
pub(crate) fn is_counted(references: u32) -> u32 {
    assert!(
        references != 0,
        "a reference is given back that nobody holds"
    );
    references
}

impl Count {
    pub(crate) fn new(references: u32) -> Self {
        Self(AtomicU32::new(references))
    }

    pub(crate) fn inc_not_zero(&self) -> bool {
        let mut val = self.0.load(Relaxed);
        while val != 0 {
            match self.0.compare_exchange(val, val + 1, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => val = now,
            }
        }
        false
    }

    pub(crate) fn dec_not_one(&self) -> bool {
        let mut val = is_counted(self.0.load(Relaxed));
        loop {
            if val == 1 {
                // smp_acquire__after_ctrl_dep(), see litmus/queued-again+*.
                fence(Acquire);
                return false;
            }
            nmi::may_come();
            match self.0.compare_exchange(val, val - 1, Release, Relaxed) {
                Ok(_) => return true,
                Err(now) => val = is_counted(now),
            }
        }
    }

    pub(crate) fn dec_and_test(&self) -> bool {
        let was = is_counted(self.0.fetch_sub(1, Release));
        if was == 1 {
            // smp_acquire__after_ctrl_dep()
            fence(Acquire);
        }
        was == 1
    }
}
