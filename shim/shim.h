/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The border between C and Rust: bindgen makes Rust declarations of what stands
 * here, but for the functions of the kernel itself (see Kbuild).
 */
#ifndef _KPTR_DEFER_SHIM_H
#define _KPTR_DEFER_SHIM_H

#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/llist.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>

#include "../include/kptr_defer.h"

/* The parameter defer_when=, as it was given. */
extern char *kptr_defer_when;

/*
 * A handle: what a BPF program keeps in a map. BPF sees this definition, Rust
 * asserts that its own has the same layout (objects/handle.rs).
 */
struct kptr_defer_task {
	struct task_struct *task;
	struct kptr_defer_slot slot;
};

/* The debugfs file. */
struct dentry *kptr_defer_stats_file_create(void);
void kptr_defer_stats_file_remove(struct dentry *dir);
void kptr_defer_rust_stats_show(struct seq_file *m);

/* Registers kfuncs and destructors with BPF, in module init only. */
int kptr_defer_register_kfuncs(struct module *owner);

/* What the kfuncs call, in Rust (objects/). */
struct kptr_defer_task *kptr_defer_rust_task_acquire(struct task_struct *task);
void kptr_defer_rust_task_release(struct kptr_defer_task *handle);

/* Helpers, see helpers.c. */
bool kptr_defer_helper_in_nmi(void);
bool kptr_defer_helper_irqs_disabled(void);
void kptr_defer_helper_preempt_disable(void);
void kptr_defer_helper_preempt_enable(void);
void kptr_defer_helper_cond_resched(void);
bool kptr_defer_helper_llist_add(struct llist_node *node, struct llist_head *head);
struct llist_node *kptr_defer_helper_llist_del_all(struct llist_head *head);
bool kptr_defer_helper_llist_empty(const struct llist_head *head);
void kptr_defer_helper_init_irq_work_in_interrupt(struct irq_work *work,
						  void (*func)(struct irq_work *));
struct workqueue_struct *kptr_defer_helper_alloc_reclaim_workqueue(const char *name);
void *kptr_defer_helper_kmalloc_nolock(size_t size);
unsigned long kptr_defer_helper_alloc_percpu_u64(void);
void kptr_defer_helper_free_percpu_u64(unsigned long numbers);
void kptr_defer_helper_this_cpu_inc_u64(unsigned long numbers);
u64 kptr_defer_helper_this_cpu_xchg_u64(unsigned long numbers, u64 number);
u64 kptr_defer_helper_percpu_sum_u64(unsigned long numbers);
bool kptr_defer_helper_task_is_dead(struct task_struct *task);

#endif /* _KPTR_DEFER_SHIM_H */
