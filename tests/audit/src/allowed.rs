// SPDX-License-Identifier: GPL-2.0

//! What may be called in NMI outside of the modules, and why. All else is a violation.

/// A function of the modules that returns true in NMI: what follows if it does not is not for NMI. It is
/// not followed itself.
pub const TRUE_IN_NMI: &str = "kptr_defer_helper_in_nmi";

/// A tracepoint of the modules. Who attaches to it is called in NMI, and knows.
const TRACEPOINT: &str = "__SCT__tp_func_";

/// What is done in NMI.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// Giving back, and looking at what is held.
    Drop,
    /// Taking a handle, which may fail.
    Acquire,
}

const ON_BOTH: &[(&str, &str)] = &[
    (
        "irq_work_queue",
        "made for NMI: a cmpxchg on the work, an interrupt to this CPU",
    ),
    (
        "__fentry__",
        "a nop until somebody traces the function; the kernel's tracers know of NMI",
    ),
    (
        "__rcu_read_lock",
        "counts, in the task or the preemption count",
    ),
    (
        "__rcu_read_unlock",
        "likewise; in NMI it puts off what the last reader leaves to do",
    ),
    (
        "__SCT__preempt_schedule",
        "behind a test of the preemption count, which is never 0 in NMI",
    ),
    ("refcount_dec_not_one", "a cmpxchg loop"),
    (
        "refcount_warn_saturate",
        "only if a reference count is broken already: one warning in all",
    ),
];

/// Those that begin with `rust_helper_` are inline functions of the kernel.
const TO_ACQUIRE: &[(&str, &str)] = &[
    ("_kmalloc_nolock_noprof", "made for NMI: only tries locks"),
    ("kfree_nolock", "likewise, for what was just allocated"),
    ("rust_helper_rcu_read_lock", "see __rcu_read_lock"),
    ("rust_helper_rcu_read_unlock", "see __rcu_read_unlock"),
    ("rust_helper_get_task_struct", "refcount_inc()"),
    ("rust_helper_mmget_not_zero", "atomic_inc_not_zero()"),
    ("rust_helper_mmgrab", "atomic_inc()"),
    ("rust_helper_atomic64_fetch_add_relaxed", "one instruction"),
    ("rust_helper_atomic_i8_xchg", "one instruction"),
    ("rust_helper_atomic_ptr_read", "one instruction"),
    ("rust_helper_atomic_ptr_xchg", "one instruction"),
];

/// Why this may be called.
pub fn why(name: &str, path: Path) -> Option<&'static str> {
    if name.starts_with(TRACEPOINT) {
        return Some("a tracepoint, when it is on");
    }
    let to_acquire = if path == Path::Acquire {
        TO_ACQUIRE
    } else {
        &[]
    };
    let mut allowed = ON_BOTH.iter().chain(to_acquire);
    allowed.find_map(|(allowed, why)| (*allowed == name).then_some(*why))
}
