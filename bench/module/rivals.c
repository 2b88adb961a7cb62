// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel has for getting something out of an NMI, as it is.
 */

#include <linux/btf.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/task_work.h>

#include "bench.h"

/* A task work needs as much room as a slot. */
static_assert(sizeof(struct callback_head) == sizeof(struct kptr_defer_slot));

static void task_work_runs(struct callback_head *work)
{
}

/* As large as a handle. */
struct kptr_defer_bench_rcu {
#ifdef kfree_rcu_nolock
	struct kvfree_rcu_head rcu;
#endif
	u64 content[2];
};

__bpf_kfunc_start_defs();

/* Runs when the current task returns to user space. */
__bpf_kfunc void kptr_defer_bench_task_work(struct kptr_defer_bench_object *object)
{
	struct callback_head *work = (struct callback_head *)&object->slot;

	init_task_work(work, task_work_runs);
	WARN_ON_ONCE(task_work_add(current, work, TWA_NMI_CURRENT));
}

/* Memory that is freed by RCU; kernels before 7.3 cannot do that in NMI. */
__bpf_kfunc struct kptr_defer_bench_rcu *kptr_defer_bench_rcu_take(void)
{
#ifdef kfree_rcu_nolock
	return kmalloc_nolock(sizeof(struct kptr_defer_bench_rcu), 0, NUMA_NO_NODE);
#else
	return NULL;
#endif
}

__bpf_kfunc void kptr_defer_bench_rcu_free(struct kptr_defer_bench_rcu *object)
{
#ifdef kfree_rcu_nolock
	kfree_rcu_nolock(object, rcu);
#endif
}

__bpf_kfunc_end_defs();
