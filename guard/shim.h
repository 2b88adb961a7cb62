/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The border between C and Rust in the guard, see ../shim/shim.h.
 */
#ifndef _KPTR_DEFER_GUARD_SHIM_H
#define _KPTR_DEFER_GUARD_SHIM_H

#include <linux/cgroup.h>
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/memcontrol.h>
#include <linux/sched.h>

#include "../shim/shim.h"

/* The debugfs file. */
struct dentry *kptr_defer_guard_file_create(void);
void kptr_defer_guard_file_remove(struct dentry *file);
void kptr_defer_guard_rust_show(struct seq_file *m);

/* Livepatches on their way, with CONFIG_LIVEPATCH. */
int kptr_defer_guard_watch_livepatches(void);
void kptr_defer_guard_stop_watching(void);
void kptr_defer_guard_rust_livepatch_coming(const char *name);

/* Helpers, see helpers.c. */
void *kptr_defer_guard_helper_function_entry(const char *function, unsigned long *size);
bool kptr_defer_guard_helper_ftrace_may_redirect(void);
void kptr_defer_guard_helper_ftrace_ops_init(struct ftrace_ops *ops, ftrace_func_t func,
					     bool redirects);
unsigned long kptr_defer_guard_helper_ftrace_regs_argument(struct ftrace_regs *regs);
void kptr_defer_guard_helper_ftrace_regs_set_argument(struct ftrace_regs *regs,
						      unsigned long argument);
unsigned long kptr_defer_guard_helper_ftrace_regs_ip(struct ftrace_regs *regs);
void kptr_defer_guard_helper_ftrace_regs_set_ip(struct ftrace_regs *regs,
						unsigned long ip);
bool kptr_defer_guard_helper_task_put_unless_last(struct task_struct *task);
struct kptr_defer_slot *kptr_defer_guard_helper_task_slot(struct task_struct *task);
struct task_struct *kptr_defer_guard_helper_task_of_slot(struct kptr_defer_slot *slot);
struct task_struct *kptr_defer_guard_helper_task_stand_in_new(void);
void kptr_defer_guard_helper_task_stand_in_lend(struct task_struct *task);
bool kptr_defer_guard_helper_css_put_unless_last(struct cgroup_subsys_state *css);
void kptr_defer_guard_helper_css_put(struct cgroup_subsys_state *css);
struct kptr_defer_slot *
kptr_defer_guard_helper_css_slot(struct cgroup_subsys_state *css);
struct cgroup_subsys_state *
kptr_defer_guard_helper_css_of_slot(struct kptr_defer_slot *slot);
struct cgroup_subsys_state *kptr_defer_guard_helper_cgroup_css(struct cgroup *cgrp);
struct cgroup *kptr_defer_guard_helper_cgroup_stand_in_new(void);
struct cgroup_subsys_state *
kptr_defer_guard_helper_mem_cgroup_css(struct mem_cgroup *memcg);
struct mem_cgroup *kptr_defer_guard_helper_mem_cgroup_stand_in_new(void);
void kptr_defer_guard_helper_trace_last_ref(const char *function, const void *object,
					    const char *would_have);

#endif /* _KPTR_DEFER_GUARD_SHIM_H */
