// SPDX-License-Identifier: GPL-2.0
/*
 * The scheme that was proposed for the kernel, in its second and third version: a
 * reference that is dropped in NMI goes onto the queue with a job out of a pool. As
 * many jobs are allocated as there are references in maps, which is counted at each
 * bpf_kptr_xchg(): there it is a call in place of one inlined instruction.
 *
 * The pool is what the kernel has for the purpose, kernel/bpf/percpu_freelist.c,
 * which is not exported: a list on each CPU, with a lock that NMIs may try to take.
 */

#include <linux/btf.h>
#include <linux/cpumask.h>
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/percpu.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include <asm/rqspinlock.h>

#include "bench.h"

struct job {
	struct llist_node node;		/* in the pool or on the queue */
	void *object;
	void (*dtor)(void *object);
};

struct free_jobs {
	rqspinlock_t lock;
	struct llist_node *first;
};

static DEFINE_PER_CPU(struct free_jobs, pool);
static atomic_long_t jobs, held_in_maps;

/*
 * What has been taken out of its map is not counted any more, but may yet need a
 * job; so does what waits on the queue: as many as one run of the benchmark does.
 */
static const int surplus = 2048;

static bool push_to(struct free_jobs *list, struct job *job)
{
	if (raw_res_spin_lock(&list->lock))
		return false;
	job->node.next = list->first;
	WRITE_ONCE(list->first, &job->node);
	raw_res_spin_unlock(&list->lock);
	return true;
}

static void push(struct job *job)
{
	int cpu;

	for (;;) {
		for_each_cpu_wrap(cpu, cpu_possible_mask, raw_smp_processor_id()) {
			if (push_to(per_cpu_ptr(&pool, cpu), job))
				return;
		}
	}
}

static struct job *pop(void)
{
	int cpu;

	for_each_cpu_wrap(cpu, cpu_possible_mask, raw_smp_processor_id()) {
		struct free_jobs *list = per_cpu_ptr(&pool, cpu);
		struct llist_node *node;

		if (!READ_ONCE(list->first) || raw_res_spin_lock(&list->lock))
			continue;
		node = list->first;
		if (node)
			WRITE_ONCE(list->first, node->next);
		raw_res_spin_unlock(&list->lock);
		if (node)
			return container_of(node, struct job, node);
	}
	return NULL;
}

static bool add_job(void)
{
	struct job *job = kmalloc_nolock(sizeof(*job), 0, NUMA_NO_NODE);

	if (!job)
		return false;
	push(job);
	atomic_long_inc(&jobs);
	return true;
}

static LLIST_HEAD(queue);

static void drain(struct irq_work *work)
{
	struct job *job, *next;

	llist_for_each_entry_safe(job, next, llist_del_all(&queue), node) {
		job->dtor(job->object);
		push(job);
	}
}

static DEFINE_IRQ_WORK(work, drain);

static void task_dtor(void *task)
{
	put_task_struct(task);
}

__bpf_kfunc_start_defs();

__bpf_kfunc struct task_struct *kptr_defer_bench_pool_task_acquire(struct task_struct *task)
{
	return get_task_struct(task);
}

/* What bpf_kptr_xchg() would do when a reference goes into a map: it may fail. */
__bpf_kfunc bool kptr_defer_bench_pool_xchg_in(void)
{
	if (atomic_long_inc_return(&held_in_maps) + surplus <= atomic_long_read(&jobs))
		return true;
	if (add_job())
		return true;
	atomic_long_dec(&held_in_maps);
	return false;
}

/* And when one comes out. */
__bpf_kfunc void kptr_defer_bench_pool_xchg_out(void)
{
	atomic_long_dec(&held_in_maps);
}

/* In NMI, always. */
__bpf_kfunc void kptr_defer_bench_pool_task_release(struct task_struct *task)
{
	struct job *job = pop();

	/* There it would leak. */
	if (WARN_ON_ONCE(!job))
		return;
	job->object = task;
	job->dtor = task_dtor;
	if (llist_add(&job->node, &queue))
		irq_work_queue(&work);
}

__bpf_kfunc_end_defs();

int kptr_defer_bench_pool_init(void)
{
	int cpu, i;

	for_each_possible_cpu(cpu)
		raw_res_spin_lock_init(&per_cpu_ptr(&pool, cpu)->lock);
	/* One more than that, for the reference that is in a map. */
	for (i = 0; i <= surplus; i++) {
		if (!add_job()) {
			kptr_defer_bench_pool_exit();
			return -ENOMEM;
		}
	}
	return 0;
}

void kptr_defer_bench_pool_exit(void)
{
	struct job *job;

	irq_work_sync(&work);
	while ((job = pop()))
		kfree_nolock(job);
}
