// SPDX-License-Identifier: GPL-2.0
/*
 * The floor: the least that giving something back can cost, with nothing that
 * makes it safe to use. No order, no budget, no second CPU, no counting.
 */

#include <linux/btf.h>
#include <linux/irq_work.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "bench.h"

static LLIST_HEAD(list);

static void drain(struct irq_work *work)
{
	struct kptr_defer_slot *slot, *next;

	llist_for_each_entry_safe(slot, next, llist_del_all(&list), node)
		slot->dtor(slot);
}

static DEFINE_IRQ_WORK(work, drain);

/* The same, the oldest first. */
static LLIST_HEAD(list_in_order);

static void drain_in_order(struct irq_work *work)
{
	struct kptr_defer_slot *slot, *next;
	struct llist_node *oldest;

	oldest = llist_reverse_order(llist_del_all(&list_in_order));
	llist_for_each_entry_safe(slot, next, oldest, node)
		slot->dtor(slot);
}

static DEFINE_IRQ_WORK(work_in_order, drain_in_order);

static __always_inline void drop(struct kptr_defer_slot *slot)
{
	if (llist_add(&slot->node, &list))
		irq_work_queue(&work);
}

static __always_inline void task_put(struct kptr_defer_bench_task *handle)
{
	put_task_struct(handle->task);
	kfree_nolock(handle);
}

static void task_drained(struct kptr_defer_slot *slot)
{
	task_put(container_of(slot, struct kptr_defer_bench_task, slot));
}

__bpf_kfunc_start_defs();

__bpf_kfunc void kptr_defer_bench_object_floor(struct kptr_defer_bench_object *object)
{
	drop(&object->slot);
}

__bpf_kfunc void kptr_defer_bench_object_in_order(struct kptr_defer_bench_object *object)
{
	if (llist_add(&object->slot.node, &list_in_order))
		irq_work_queue(&work_in_order);
}

/* Handles on tasks that know nothing of NMI. */
__bpf_kfunc struct kptr_defer_bench_task *
kptr_defer_bench_task_acquire(struct task_struct *task)
{
	struct kptr_defer_bench_task *handle;

	handle = kmalloc_nolock(sizeof(*handle), 0, NUMA_NO_NODE);
	if (!handle)
		return NULL;
	handle->task = get_task_struct(task);
	handle->slot.dtor = task_drained;
	return handle;
}

__bpf_kfunc void kptr_defer_bench_task_release(struct kptr_defer_bench_task *handle)
{
	task_put(handle);
}

/* Those that have a node do. */
__bpf_kfunc void kptr_defer_bench_task_floor(struct kptr_defer_bench_task *handle)
{
	drop(&handle->slot);
}

__bpf_kfunc_end_defs();

void kptr_defer_bench_floor_exit(void)
{
	irq_work_sync(&work);
	irq_work_sync(&work_in_order);
}
