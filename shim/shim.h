/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The border between C and Rust: bindgen makes Rust declarations of what stands
 * here, but for the functions of the kernel itself (see Kbuild).
 */
#ifndef _KPTR_DEFER_SHIM_H
#define _KPTR_DEFER_SHIM_H

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/jump_label.h>
#include <linux/llist.h>
#include <linux/mm_types.h>
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
#include "trace.h"

/* The parameter defer_when=, as it was given. */
extern char *kptr_defer_when;

/* Whether drops are deferred elsewhere, too, than in NMI. */
struct kptr_defer_key {
	struct static_key_false key;
};

extern struct kptr_defer_key kptr_defer_not_only_in_nmi;

/* What handles can hold (objects/): KIND(its name, its type in the kernel). */
#define KPTR_DEFER_KINDS(KIND)		\
	KIND(task, struct task_struct)	\
	KPTR_DEFER_CGROUP(KIND)		\
	KIND(cred, const struct cred)	\
	KIND(file, struct file)		\
	KIND(mm, struct mm_struct)

#ifdef CONFIG_CGROUPS
#define KPTR_DEFER_CGROUP(KIND) KIND(cgroup, struct cgroup)
#else
#define KPTR_DEFER_CGROUP(KIND)
#endif

/*
 * A handle: what a BPF program keeps in a map. BPF sees this definition, Rust
 * asserts that its own has the same layout. The functions are what the kfuncs
 * call, in Rust (objects/handle.rs).
 */
#define KPTR_DEFER_HANDLE(kind, type)							\
	struct kptr_defer_##kind {							\
		struct kptr_defer_slot slot;						\
		type *kind;								\
	};										\
	struct kptr_defer_##kind *kptr_defer_rust_##kind##_acquire(type *object);	\
	void kptr_defer_rust_##kind##_release(struct kptr_defer_##kind *handle);

KPTR_DEFER_KINDS(KPTR_DEFER_HANDLE)

struct kptr_defer_file *kptr_defer_rust_file_acquire_fd(u32 fd);

/* The debugfs file. */
struct dentry *kptr_defer_stats_file_create(void);
void kptr_defer_stats_file_remove(struct dentry *dir);
void kptr_defer_rust_stats_show(struct seq_file *m);

/* Registers kfuncs and destructors with BPF, in module init only, as the last step. */
int kptr_defer_register_kfuncs(struct module *owner);

#ifdef __BINDGEN__
/* What in_nmi() looks for in preempt_count(). */
static const u32 kptr_defer_nmi_mask = NMI_MASK;
#endif

/* Helpers, see helpers.c and memory.c. */
bool kptr_defer_helper_in_nmi(void);
bool kptr_defer_helper_irqs_disabled(void);
void kptr_defer_helper_static_key_enable(struct kptr_defer_key *key);
void kptr_defer_helper_preempt_disable(void);
void kptr_defer_helper_preempt_enable(void);
void kptr_defer_helper_cond_resched(void);
bool kptr_defer_helper_llist_add(struct llist_node *node, struct llist_head *head);
struct llist_node *kptr_defer_helper_llist_del_all(struct llist_head *head);
bool kptr_defer_helper_llist_empty(const struct llist_head *head);
void kptr_defer_helper_init_irq_work_in_interrupt(struct irq_work *work,
						  void (*func)(struct irq_work *));
u64 kptr_defer_helper_clock_ticks(void);
u64 kptr_defer_helper_clock_ticks_to_ns(u64 ticks);
struct workqueue_struct *kptr_defer_helper_alloc_reclaim_workqueue(const char *name);
struct workqueue_struct *kptr_defer_helper_alloc_unbound_workqueue(const char *name);
void *kptr_defer_helper_kmalloc_nolock(size_t size);
unsigned long kptr_defer_helper_alloc_percpu_u64(size_t count);
void kptr_defer_helper_free_percpu_u64(unsigned long numbers);
void kptr_defer_helper_this_cpu_inc_u64(unsigned long numbers);
void kptr_defer_helper_this_cpu_write_u64(unsigned long numbers, u64 number);
u64 kptr_defer_helper_this_cpu_read_u64(unsigned long numbers);
u64 kptr_defer_helper_this_cpu_xchg_u64(unsigned long numbers, u64 number);
u64 kptr_defer_helper_per_cpu_take_u64(unsigned long numbers, unsigned int cpu);
u64 kptr_defer_helper_percpu_sum_u64(unsigned long numbers);
bool kptr_defer_helper_task_is_dead(struct task_struct *task);
bool kptr_defer_helper_cgroup_tryget(struct cgroup *cgroup);
void kptr_defer_helper_cgroup_put(struct cgroup *cgroup);
bool kptr_defer_helper_cred_tryget(const struct cred *cred);
bool kptr_defer_helper_file_tryget(struct file *file);
bool kptr_defer_helper_file_is_open(struct file *file);
struct file *kptr_defer_helper_current_file(unsigned int fd);
struct mm_struct *kptr_defer_helper_current_mm(void);
void kptr_defer_helper_call_rcu_hurry(struct rcu_head *head, rcu_callback_t func);

#endif /* _KPTR_DEFER_SHIM_H */
