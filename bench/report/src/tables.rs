// SPDX-License-Identifier: GPL-2.0

//! The figures that there have to be, and their aims.

use crate::figures::{
    Aim,
    Aimed, //
};

/// A table of the document.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) figures: &'static [Aimed],
}

const fn figure(name: &'static str, what: &'static str, floor: &'static str, aim: Aim) -> Aimed {
    Aimed {
        name,
        what,
        floor,
        aim,
    }
}

const LINK: &str = "`llist_add()`, `irq_work_queue()`";
const LINK_NEXT: &str = "`llist_add()`";
const LOOP: &str = "a loop over the list";
const BUDGET: &str = "a queue of `budget` drops";
const BOOT: &str = "a boot of the same machine";
const PER_CPU: &str = "a queue on each CPU";

/// All of them.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "nmi",
        figures: &[
            figure(
                "nmi_drop_first",
                "a task handle, the first on the queue",
                LINK,
                Aim::Times(1.15),
            ),
            figure(
                "nmi_drop_next",
                "a task handle, one more",
                LINK_NEXT,
                Aim::More(8.0),
            ),
            figure(
                "nmi_slot_drop_first",
                "a slot, by `kptr_defer_drop()`, the first",
                LINK,
                Aim::More(20.0),
            ),
            figure(
                "nmi_slot_drop_next",
                "a slot, one more",
                LINK_NEXT,
                Aim::More(14.0),
            ),
            figure(
                "nmi_raises",
                "interrupts that 1000 drops in one NMI ask for",
                "the same",
                Aim::Exactly(1.0),
            ),
        ],
    },
    Table {
        name: "process",
        figures: &[
            figure(
                "plain_drop",
                "a task handle",
                "put and free of the same handle in C",
                Aim::More(5.0),
            ),
            figure(
                "plain_drop_of_many",
                "the same, with 32 handles' memory kept already",
                "the same",
                Aim::None,
            ),
            figure(
                "acquire_release",
                "a task handle, taken and dropped",
                "`bpf_task_acquire()`, `bpf_task_release()`",
                Aim::None,
            ),
            figure(
                "acquire_release_plain",
                "the same",
                "the same handle in C",
                Aim::None,
            ),
            figure(
                "guard_pass",
                "the two kfuncs of the kernel with the guard loaded",
                "without",
                Aim::None,
            ),
        ],
    },
    Table {
        name: "drain",
        figures: &[
            figure("drain_task", "a task handle", LOOP, Aim::Times(1.2)),
            figure(
                "drain_slot",
                "a slot with a destructor that counts",
                LOOP,
                Aim::More(15.0),
            ),
            figure(
                "drain_slot_in_order",
                "the same",
                "a loop that turns the list round first",
                Aim::None,
            ),
            figure(
                "irqs_off_1000",
                "interrupts off at a time, 10³ queued",
                BUDGET,
                Aim::Times(1.1),
            ),
            figure("irqs_off_10000", "10⁴ queued", BUDGET, Aim::Times(1.1)),
            figure("irqs_off_100000", "10⁵ queued", BUDGET, Aim::Times(1.1)),
            figure("irqs_off_1000000", "10⁶ queued", BUDGET, Aim::Times(1.1)),
            figure(
                "irqs_off_in_a_loop_1000",
                "in a loop over the list, 10³ queued",
                BUDGET,
                Aim::None,
            ),
            figure("irqs_off_in_a_loop_10000", "10⁴ queued", BUDGET, Aim::None),
            figure("irqs_off_in_a_loop_100000", "10⁵ queued", BUDGET, Aim::None),
            figure(
                "irqs_off_in_a_loop_1000000",
                "10⁶ queued",
                BUDGET,
                Aim::None,
            ),
        ],
    },
    Table {
        name: "cycle",
        figures: &[
            figure(
                "cycle_nmi",
                "16 in one NMI: what the program does there",
                "the pool",
                Aim::Times(1.0),
            ),
            figure("cycle", "with the drain", "the pool", Aim::Times(1.0)),
            figure(
                "cycle_nmi_burst",
                "256 in one NMI: what the program does there",
                "the pool",
                Aim::None,
            ),
            figure("cycle_burst", "with the drain", "the pool", Aim::None),
            figure(
                "cycle_guarded",
                "the kernel's own kfuncs, with the guard",
                "the pool",
                Aim::Times(1.0),
            ),
        ],
    },
    Table {
        name: "rivals",
        figures: &[
            figure(
                "task_work_first",
                "`task_work_add(TWA_NMI_CURRENT)`, the first",
                LINK,
                Aim::None,
            ),
            figure("task_work_next", "one more", LINK_NEXT, Aim::None),
            figure(
                "kfree_rcu_nolock",
                "`kfree_rcu_nolock()`",
                LINK_NEXT,
                Aim::None,
            ),
            figure(
                "bpf_mem_free",
                "`bpf_cpumask_release()`",
                LINK_NEXT,
                Aim::None,
            ),
        ],
    },
    Table {
        name: "memory",
        figures: &[
            figure(
                "memory_slot",
                "a slot in an object of one's own",
                "a link and a pointer",
                Aim::Limit(16.0),
            ),
            figure(
                "memory_handle",
                "a handle",
                "what is in it",
                Aim::Limit(32.0),
            ),
            figure("ko_text", "`kptr_defer.ko`, its code", "a page", Aim::None),
            figure(
                "ko_file",
                "`kptr_defer.ko`, the file without debug information",
                "its code",
                Aim::None,
            ),
        ],
    },
    Table {
        name: "throughput",
        figures: &[
            figure(
                "throughput_1",
                "one CPU drops, emulated",
                PER_CPU,
                Aim::None,
            ),
            figure("throughput_2", "two CPUs", PER_CPU, Aim::None),
            figure("throughput_4", "four CPUs", PER_CPU, Aim::None),
            figure(
                "cores_1",
                "one processor, for real, 10⁵ drops a second",
                PER_CPU,
                Aim::None,
            ),
            figure(
                "cores_2_at_10000",
                "two processors, 10⁴ a second each",
                PER_CPU,
                Aim::None,
            ),
            figure("cores_2_at_100000", "10⁵ a second each", PER_CPU, Aim::None),
            figure(
                "cores_2_at_1000000",
                "10⁶ a second each",
                PER_CPU,
                Aim::None,
            ),
            figure(
                "rate_that_matters",
                "one hundredth of each CPU's time",
                "how often perf samples",
                Aim::None,
            ),
        ],
    },
    Table {
        name: "speed",
        figures: &[
            figure(
                "demo_from_nothing",
                "`make demo` from nothing",
                "`make demo` again",
                Aim::None,
            ),
            figure("demo_again", "`make demo` again", BOOT, Aim::None),
        ],
    },
];
