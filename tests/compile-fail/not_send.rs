// SPDX-License-Identifier: GPL-2.0

//! Something is to be dropped on another CPU that may not leave its task.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kernel::{
    prelude::*,
    types::NotThreadSafe, //
};
use kptr_defer::Deferred;

#[cfg(not(misuse))]
struct Thing(u32);

#[cfg(misuse)]
struct Thing(u32, NotThreadSafe);

struct Keeper {
    thing: Deferred<Thing>, //~ cannot be sent between threads safely
}
