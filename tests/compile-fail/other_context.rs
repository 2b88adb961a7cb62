// SPDX-License-Identifier: GPL-2.0

//! A context that kptr_defer does not know.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kptr_defer::{
    Deferred,
    DropContext,
    InProcess, //
};

#[cfg(not(misuse))]
type Here = InProcess;

#[cfg(misuse)]
struct Here;

#[cfg(misuse)]
impl DropContext<u32> for Here {} //~ `private::DropContext` is not implemented for `Here`

struct Keeper {
    number: Deferred<u32, Here>,
}
