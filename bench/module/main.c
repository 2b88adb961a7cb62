// SPDX-License-Identifier: GPL-2.0
/*
 * What the benchmark's BPF programs need: a clock, where they are, objects to
 * give back, and those functions for it that kptr_defer is measured against.
 */

#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/irq_work.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/slab.h>

#include <asm/tsc.h>

#include "bench.h"

/* Given out again and again in turn: there are more than are ever queued at once. */
static struct kptr_defer_bench_object objects[4096];
static unsigned int next_object;

static unsigned long freed;

static void object_free(struct kptr_defer_slot *slot)
{
	WRITE_ONCE(freed, freed + 1);
}

static void nothing(struct irq_work *work)
{
}

static DEFINE_IRQ_WORK(nothing_work, nothing);

__bpf_kfunc_start_defs();

/* Where instructions are counted, QEMU's -icount, this is their number. */
__bpf_kfunc u64 kptr_defer_bench_clock(void)
{
	return rdtsc_ordered();
}

__bpf_kfunc bool kptr_defer_bench_in_nmi(void)
{
	return in_nmi();
}

/* What the allocator has really given for it. */
__bpf_kfunc u64 kptr_defer_bench_ksize(const void *object__ign)
{
	return ksize(object__ign);
}

/* An interrupt in which nothing is to be done. */
__bpf_kfunc void kptr_defer_bench_interrupt(void)
{
	irq_work_queue(&nothing_work);
}

__bpf_kfunc struct kptr_defer_bench_object *kptr_defer_bench_object_take(void)
{
	struct kptr_defer_bench_object *object;

	object = &objects[next_object++ % ARRAY_SIZE(objects)];
	object->slot.dtor = object_free;
	return object;
}

__bpf_kfunc void kptr_defer_bench_object_drop(struct kptr_defer_bench_object *object)
{
	kptr_defer_drop(&object->slot, object_free);
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, kptr_defer_bench_clock)
BTF_ID_FLAGS(func, kptr_defer_bench_in_nmi)
BTF_ID_FLAGS(func, kptr_defer_bench_ksize)
BTF_ID_FLAGS(func, kptr_defer_bench_interrupt)
BTF_ID_FLAGS(func, kptr_defer_bench_object_take, KF_ACQUIRE | KF_RET_NULL)
BTF_ID_FLAGS(func, kptr_defer_bench_object_drop, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_object_floor, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_object_in_order, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_task_acquire, KF_ACQUIRE | KF_RET_NULL | KF_RCU)
BTF_ID_FLAGS(func, kptr_defer_bench_task_release, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_task_floor, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_pool_task_acquire, KF_ACQUIRE | KF_RCU)
BTF_ID_FLAGS(func, kptr_defer_bench_pool_task_release, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_pool_xchg_in)
BTF_ID_FLAGS(func, kptr_defer_bench_pool_xchg_out)
BTF_ID_FLAGS(func, kptr_defer_bench_task_work, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_rcu_take, KF_ACQUIRE | KF_RET_NULL)
BTF_ID_FLAGS(func, kptr_defer_bench_rcu_free, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_bench_flood)
BTF_ID_FLAGS(func, kptr_defer_bench_flood_done)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

static int __init bench_init(void)
{
	int err;

	err = kptr_defer_bench_pool_init();
	if (err)
		return err;
	err = kptr_defer_bench_flood_init();
	/* The last that can fail: programs may call them from here on. */
	err = err ?: register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING, &kfunc_set);
	err = err ?: register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &kfunc_set);
	if (err) {
		kptr_defer_bench_flood_exit();
		kptr_defer_bench_pool_exit();
	}
	return err;
}
module_init(bench_init);

static void __exit bench_exit(void)
{
	kptr_defer_barrier();
	irq_work_sync(&nothing_work);
	kptr_defer_bench_floor_exit();
	kptr_defer_bench_flood_exit();
	kptr_defer_bench_pool_exit();
}
module_exit(bench_exit);

MODULE_DESCRIPTION("What kptr_defer is measured against");
MODULE_LICENSE("GPL");
