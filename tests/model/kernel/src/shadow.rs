// SPDX-License-Identifier: GPL-2.0

//! loom's own objects cannot be made in a `const fn`, and so they are kept beside the memory that
//! they stand for: found by its address, and made when that is first used, which has to be before
//! there is more than one thread.

use std::{
    any::{
        Any,
        TypeId, //
    },
    collections::HashMap,
    sync::{
        Arc,
        Mutex, //
    },
};

#[cfg(not(feature = "loom"))]
use std::sync::LazyLock;

type Shadows = HashMap<(usize, TypeId), Arc<dyn Any + Send + Sync>>;

#[cfg(feature = "loom")]
loom::lazy_static! {
    static ref SHADOWS: Mutex<Shadows> = Mutex::new(HashMap::new());
}

#[cfg(not(feature = "loom"))]
static SHADOWS: LazyLock<Mutex<Shadows>> = LazyLock::new(|| Mutex::new(HashMap::new()));

/// What stands for the memory there.
pub fn of<M, T: Any + Send + Sync>(memory: *const M, new: impl FnOnce() -> T) -> Arc<T> {
    let mut shadows = SHADOWS.lock().unwrap();
    shadows
        .entry((memory.addr(), TypeId::of::<T>()))
        .or_insert_with(|| Arc::new(new()))
        .clone()
        .downcast()
        .expect("it was made with this type")
}
