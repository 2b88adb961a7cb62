// SPDX-License-Identifier: GPL-2.0

pub mod aref;
pub mod atomic;

use loom::sync::{
    Condvar,
    Mutex, //
};
use pinned_init::PinInit;

pub struct Completion {
    is_complete: Mutex<bool>,
    changed: Condvar,
}

impl Completion {
    pub fn new() -> impl PinInit<Self> {
        let init = |slot: *mut Self| {
            let completion = Self {
                is_complete: Mutex::new(false),
                changed: Condvar::new(),
            };
            // SAFETY: The caller passes a place for it.
            unsafe { slot.write(completion) };
            Ok(())
        };
        // SAFETY: It is initialised.
        unsafe { pinned_init::pin_init_from_closure(init) }
    }

    pub fn complete_all(&self) {
        *self.is_complete.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub fn wait_for_completion(&self) {
        let mut is_complete = self.is_complete.lock().unwrap();
        while !*is_complete {
            is_complete = self.changed.wait(is_complete).unwrap();
        }
    }
}
