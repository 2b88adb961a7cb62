// SPDX-License-Identifier: GPL-2.0

//! The drop may come after the end of what is borrowed.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kernel::prelude::*;
use kptr_defer::Deferred;

struct Log<'a>(&'a str);

#[cfg(not(misuse))]
type Borrowed<'a> = Log<'static>;

#[cfg(misuse)]
type Borrowed<'a> = Log<'a>;

fn defer(log: Borrowed<'_>) -> Result {
    Deferred::<_>::new(log, GFP_KERNEL)?; //~ borrowed data escapes outside of function
    Ok(())
}
