// SPDX-License-Identifier: GPL-2.0
/*
 * Many drops at once, on one CPU or on all: by kptr_defer, or with a queue on each
 * CPU, which needs no owner, as nobody else drains it.
 */

#include <linux/btf.h>
#include <linux/cpumask.h>
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/percpu.h>
#include <linux/vmalloc.h>

#include "bench.h"

/* As many on each CPU that there is. Aligned, so that an object tells whose it is. */
static struct kptr_defer_bench_object *objects;
static const unsigned long objects_total = 1 << 20;
static unsigned long objects_per_cpu;

struct flooded {
	u64 dropped;
	u64 done;	/* by the one who drains */
};

static DEFINE_PER_CPU_ALIGNED(struct flooded, flooded);

static void object_done(struct kptr_defer_slot *slot)
{
	struct kptr_defer_bench_object *object;
	struct flooded *cpu;

	object = container_of(slot, struct kptr_defer_bench_object, slot);
	cpu = per_cpu_ptr(&flooded, (object - objects) / objects_per_cpu);
	/* Whoever sees the count may use the slot again. */
	smp_store_release(&cpu->done, cpu->done + 1);
}

struct queue {
	struct llist_head list;
	struct irq_work work;
};

static void drain(struct irq_work *work)
{
	struct queue *queue = container_of(work, struct queue, work);
	struct kptr_defer_slot *slot, *next;

	llist_for_each_entry_safe(slot, next, llist_del_all(&queue->list), node)
		slot->dtor(slot);
}

static DEFINE_PER_CPU_ALIGNED(struct queue, queues) = {
	.work = IRQ_WORK_INIT_HARD(drain),
};

static void drop_on_this_cpu(struct kptr_defer_slot *slot)
{
	struct queue *queue = this_cpu_ptr(&queues);

	slot->dtor = object_done;
	if (llist_add(&slot->node, &queue->list))
		irq_work_queue(&queue->work);
}

__bpf_kfunc_start_defs();

/* In NMI. Drops nothing and returns false when so many are under way that there is no room. */
__bpf_kfunc bool kptr_defer_bench_flood(u64 drops, bool queue_per_cpu)
{
	int cpu = raw_smp_processor_id();
	struct flooded *mine = this_cpu_ptr(&flooded);
	u64 end = mine->dropped + drops;

	/* With the release in object_done(). */
	if (end - smp_load_acquire(&mine->done) > objects_per_cpu)
		return false;
	for (; mine->dropped != end; mine->dropped++) {
		u64 i = cpu * objects_per_cpu + mine->dropped % objects_per_cpu;
		struct kptr_defer_slot *slot = &objects[i].slot;

		if (queue_per_cpu)
			drop_on_this_cpu(slot);
		else
			kptr_defer_drop(slot, object_done);
	}
	return true;
}

/* How many of them have been done. */
__bpf_kfunc u64 kptr_defer_bench_flood_done(void)
{
	u64 done = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		done += READ_ONCE(per_cpu_ptr(&flooded, cpu)->done);
	return done;
}

__bpf_kfunc_end_defs();

int kptr_defer_bench_flood_init(void)
{
	objects_per_cpu = objects_total / nr_cpu_ids;
	objects = vcalloc(objects_total, sizeof(*objects));
	return objects ? 0 : -ENOMEM;
}

void kptr_defer_bench_flood_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		irq_work_sync(&per_cpu_ptr(&queues, cpu)->work);
	vfree(objects);
}
