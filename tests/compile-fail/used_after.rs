// SPDX-License-Identifier: GPL-2.0

//! A value is used when it has been given up.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kptr_defer::Deferred;

fn give_up(number: Deferred<u32>) -> u32 {
    let last = *number;
    drop(number);
    #[cfg(misuse)]
    return *number; //~ borrow of moved value: `number`
    #[cfg(not(misuse))]
    last
}
