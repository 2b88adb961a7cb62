// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel, as functions that Rust can call.
 * Rust sees them without their prefix. What is exported, the guard calls, too.
 */

#include <linux/cgroup.h>
#include <linux/export.h>
#include <linux/fdtable.h>
#include <linux/math64.h>

#ifdef CONFIG_X86_64
#include <asm/tsc.h>
#endif

#include "shim.h"

bool kptr_defer_helper_in_nmi(void)
{
	return in_nmi();
}
EXPORT_SYMBOL_GPL(kptr_defer_helper_in_nmi);

bool kptr_defer_helper_irqs_disabled(void)
{
	return irqs_disabled();
}

void kptr_defer_helper_static_key_enable(struct kptr_defer_key *key)
{
	static_branch_enable(&key->key);
}

void kptr_defer_helper_preempt_disable(void)
{
	preempt_disable();
}

void kptr_defer_helper_preempt_enable(void)
{
	preempt_enable();
}

void kptr_defer_helper_cond_resched(void)
{
	cond_resched();
}

bool kptr_defer_helper_llist_add(struct llist_node *node, struct llist_head *head)
{
	return llist_add(node, head);
}

struct llist_node *kptr_defer_helper_llist_del_all(struct llist_head *head)
{
	return llist_del_all(head);
}

bool kptr_defer_helper_llist_empty(const struct llist_head *head)
{
	return llist_empty(head);
}

/* In interrupt context on all kernels: elsewhere than on RT the plain kind is. */
void kptr_defer_helper_init_irq_work_in_interrupt(struct irq_work *work,
						  void (*func)(struct irq_work *))
{
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		*work = IRQ_WORK_INIT_HARD(func);
	else
		*work = IRQ_WORK_INIT(func);
}

u64 kptr_defer_helper_clock_ticks(void)
{
#ifdef CONFIG_X86_64
	return rdtsc();
#else
	return ktime_get_mono_fast_ns();
#endif
}

u64 kptr_defer_helper_clock_ticks_to_ns(u64 ticks)
{
#ifdef CONFIG_X86_64
	return tsc_khz ? mul_u64_u32_div(ticks, USEC_PER_SEC, tsc_khz) : 0;
#else
	return ticks;
#endif
}

struct workqueue_struct *kptr_defer_helper_alloc_reclaim_workqueue(const char *name)
{
	return alloc_workqueue("%s", WQ_UNBOUND | WQ_HIGHPRI | WQ_MEM_RECLAIM, 0, name);
}

struct workqueue_struct *kptr_defer_helper_alloc_unbound_workqueue(const char *name)
{
	return alloc_workqueue("%s", WQ_UNBOUND, 0, name);
}

/*
 * To the compiler a per-CPU pointer is in an address space of its own, which
 * Rust does not know: there it is a number.
 */
static u64 __percpu *percpu_u64(unsigned long numbers)
{
	return (u64 __percpu *)numbers;
}

unsigned long kptr_defer_helper_alloc_percpu_u64(size_t count)
{
	return (__force unsigned long)__alloc_percpu(array_size(count, sizeof(u64)),
						     __alignof__(u64));
}
EXPORT_SYMBOL_GPL(kptr_defer_helper_alloc_percpu_u64);

void kptr_defer_helper_free_percpu_u64(unsigned long numbers)
{
	free_percpu(percpu_u64(numbers));
}
EXPORT_SYMBOL_GPL(kptr_defer_helper_free_percpu_u64);

void kptr_defer_helper_this_cpu_inc_u64(unsigned long numbers)
{
	this_cpu_inc(*percpu_u64(numbers));
}
EXPORT_SYMBOL_GPL(kptr_defer_helper_this_cpu_inc_u64);

void kptr_defer_helper_this_cpu_write_u64(unsigned long numbers, u64 number)
{
	this_cpu_write(*percpu_u64(numbers), number);
}

u64 kptr_defer_helper_this_cpu_read_u64(unsigned long numbers)
{
	return this_cpu_read(*percpu_u64(numbers));
}

u64 kptr_defer_helper_this_cpu_xchg_u64(unsigned long numbers, u64 number)
{
	return this_cpu_xchg(*percpu_u64(numbers), number);
}

/* Leaves zero in its place. */
u64 kptr_defer_helper_per_cpu_take_u64(unsigned long numbers, unsigned int cpu)
{
	return cpu_possible(cpu) ? xchg(per_cpu_ptr(percpu_u64(numbers), cpu), 0) : 0;
}

u64 kptr_defer_helper_percpu_sum_u64(unsigned long numbers)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(percpu_u64(numbers), cpu));
	return sum;
}
EXPORT_SYMBOL_GPL(kptr_defer_helper_percpu_sum_u64);

/*
 * Nobody can find it any more; it waits for its RCU grace period, or is past that.
 * The first idle task has never had rcu_users (init/init_task.c), and lives on.
 */
bool kptr_defer_helper_task_is_dead(struct task_struct *task)
{
	return !refcount_read(&task->rcu_users) && !is_idle_task(task);
}

#ifdef CONFIG_CGROUPS
bool kptr_defer_helper_cgroup_tryget(struct cgroup *cgroup)
{
	return cgroup_tryget(cgroup);
}

void kptr_defer_helper_cgroup_put(struct cgroup *cgroup)
{
	cgroup_put(cgroup);
}
#endif

bool kptr_defer_helper_cred_tryget(const struct cred *cred)
{
	return get_cred_rcu(cred);
}

bool kptr_defer_helper_file_tryget(struct file *file)
{
	return file_ref_get(&file->f_ref);
}

bool kptr_defer_helper_file_is_open(struct file *file)
{
	return READ_ONCE(file->f_mode) & FMODE_OPENED;
}

struct file *kptr_defer_helper_current_file(unsigned int fd)
{
	struct files_struct *files = current->files;

	return files ? files_lookup_fd_raw(files, fd) : NULL;
}

struct mm_struct *kptr_defer_helper_current_mm(void)
{
	return current->mm;
}

/* Not held back to save power: a file keeps its mount, an mm its memory. */
void kptr_defer_helper_call_rcu_hurry(struct rcu_head *head, rcu_callback_t func)
{
	call_rcu_hurry(head, func);
}
