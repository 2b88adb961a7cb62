// SPDX-License-Identifier: GPL-2.0

//! The wish of others that this ends.

use signal_hook::{
    consts::{
        SIGINT,
        SIGTERM, //
    },
    flag, //
};
use std::{
    io,
    sync::{
        atomic::{
            AtomicBool,
            Ordering, //
        },
        Arc,
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// How long it takes at most until such a wish is noticed.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn on_signals() -> io::Result<Stop> {
        let stop = Stop(Arc::default());
        for signal in [SIGINT, SIGTERM] {
            // The second one waits for nothing: the kernel gives back all that a process holds.
            flag::register_conditional_shutdown(signal, 128 + signal, stop.0.clone())?;
            flag::register(signal, stop.0.clone())?;
        }
        Ok(stop)
    }

    pub(crate) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps until then, or until it is to stop.
    pub(crate) fn sleep_until(&self, then: Instant) {
        loop {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_requested() {
                return;
            }
            thread::sleep(left.min(PATIENCE));
        }
    }
}
