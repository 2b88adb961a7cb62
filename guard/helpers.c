// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel, as functions that Rust can call.
 * Rust sees them without their prefix.
 */

#include <linux/cgroup.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/memcontrol.h>
#include <linux/percpu-refcount.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "shim.h"
#include "trace.h"

/*
 * The entry of a function, and its size, or an error. A probe is not set, but finds the place
 * for it: behind the landing pad (ENDBR, BTI) that an indirect call needs.
 */
void *kptr_defer_guard_helper_function_entry(const char *function, unsigned long *size)
{
	struct kprobe probe = {
		.symbol_name	= function,
		.flags		= KPROBE_FLAG_DISABLED,
	};
	char symbol[KSYM_SYMBOL_LEN], *plus;
	unsigned long offset;
	int err;

	err = register_kprobe(&probe);
	if (err)
		return ERR_PTR(err);
	unregister_kprobe(&probe);

	/* name+0xoffset/0xsize */
	sprint_symbol(symbol, (unsigned long)probe.addr);
	plus = strchr(symbol, '+');
	if (!plus || sscanf(plus, "+%lx/%lx", &offset, size) != 2)
		return ERR_PTR(-EINVAL);
	return (void *)probe.addr - offset;
}

/*
 * With FTRACE_OPS_FL_IPMODIFY on a function, BPF's fexit trampolines call the rest
 * of it through a pointer (BPF_TRAMP_F_ORIG_STACK), which is no landing pad: with
 * IBT that is fatal.
 */
bool kptr_defer_guard_helper_ftrace_may_redirect(void)
{
#ifdef CONFIG_X86_64
	return !cpu_feature_enabled(X86_FEATURE_IBT);
#else
	return true;
#endif
}

/*
 * Not FTRACE_OPS_FL_RECURSION: then ftrace would leave out calls that a BPF
 * program makes when it has been called by ftrace itself.
 */
void kptr_defer_guard_helper_ftrace_ops_init(struct ftrace_ops *ops, ftrace_func_t func,
					     bool redirects)
{
	*ops = (struct ftrace_ops) {
		.func	= func,
		.flags	= FTRACE_OPS_FL_PERMANENT |
			  (redirects ? FTRACE_OPS_FL_IPMODIFY : 0),
	};
}

unsigned long kptr_defer_guard_helper_ftrace_regs_argument(struct ftrace_regs *regs)
{
	return ftrace_regs_get_argument(regs, 0);
}

void kptr_defer_guard_helper_ftrace_regs_set_argument(struct ftrace_regs *regs,
						      unsigned long argument)
{
#ifdef CONFIG_X86_64
	arch_ftrace_regs(regs)->regs.di = argument;
#else
	arch_ftrace_regs(regs)->regs[0] = argument;
#endif
}

unsigned long kptr_defer_guard_helper_ftrace_regs_ip(struct ftrace_regs *regs)
{
	return ftrace_regs_get_instruction_pointer(regs);
}

void kptr_defer_guard_helper_ftrace_regs_set_ip(struct ftrace_regs *regs,
						unsigned long ip)
{
	ftrace_regs_set_instruction_pointer(regs, ip);
}

/* As put_task_struct_rcu_user() in kernel/exit.c, but for the last reference. */
bool kptr_defer_guard_helper_task_put_unless_last(struct task_struct *task)
{
	if (refcount_dec_not_one(&task->rcu_users))
		return true;
	/* Whoever held it before is done with its memory: the drain, for one. */
	smp_acquire__after_ctrl_dep();
	return false;
}

struct kptr_defer_slot *kptr_defer_guard_helper_task_slot(struct task_struct *task)
{
	BUILD_BUG_ON(sizeof(struct kptr_defer_slot) > sizeof(task->rcu));
	return (struct kptr_defer_slot *)&task->rcu;
}

struct task_struct *kptr_defer_guard_helper_task_of_slot(struct kptr_defer_slot *slot)
{
	return container_of((struct rcu_head *)slot, struct task_struct, rcu);
}

/*
 * Whoever looks at a stand-in takes it for a dead one: nobody gets hold of it, and
 * no BPF program can attach storage to it. A task with no usage is dead.
 */
struct task_struct *kptr_defer_guard_helper_task_stand_in_new(void)
{
	struct task_struct *task = kzalloc(sizeof(*task), GFP_KERNEL);

	if (task)
		refcount_set(&task->rcu_users, 1);
	return task;
}

void kptr_defer_guard_helper_task_stand_in_lend(struct task_struct *task)
{
	refcount_inc(&task->rcu_users);
}

/*
 * As css_put() in include/linux/cgroup_refcnt.h and percpu_ref_put_many(), but
 * for the last reference. Only a count in atomic mode tells which that is: in
 * per-CPU mode there is the initial reference, too.
 */
bool kptr_defer_guard_helper_css_put_unless_last(struct cgroup_subsys_state *css)
{
	unsigned long __percpu *count;
	bool put = true;

	if (css->flags & CSS_NO_REF)
		return true;

	rcu_read_lock();
	if (__ref_is_percpu(&css->refcnt, &count))
		this_cpu_dec(*count);
	else
		put = atomic_long_add_unless(&css->refcnt.data->count, -1, 1);
	rcu_read_unlock();
	if (!put)
		smp_acquire__after_ctrl_dep();	/* as for a task */
	return put;
}

void kptr_defer_guard_helper_css_put(struct cgroup_subsys_state *css)
{
	css_put(css);
}

struct kptr_defer_slot *
kptr_defer_guard_helper_css_slot(struct cgroup_subsys_state *css)
{
	BUILD_BUG_ON(sizeof(struct kptr_defer_slot) > sizeof(css->destroy_work));
	return (struct kptr_defer_slot *)&css->destroy_work;
}

struct cgroup_subsys_state *
kptr_defer_guard_helper_css_of_slot(struct kptr_defer_slot *slot)
{
	return container_of((struct work_struct *)slot, struct cgroup_subsys_state,
			    destroy_work);
}

struct cgroup_subsys_state *kptr_defer_guard_helper_cgroup_css(struct cgroup *cgrp)
{
	return &cgrp->self;
}

static void css_stand_in(struct cgroup_subsys_state *css)
{
	css->flags = CSS_NO_REF;
	css->refcnt.percpu_count_ptr = __PERCPU_REF_ATOMIC_DEAD;
}

struct cgroup *kptr_defer_guard_helper_cgroup_stand_in_new(void)
{
	struct cgroup *cgrp = kzalloc(sizeof(*cgrp), GFP_KERNEL);

	if (cgrp)
		css_stand_in(&cgrp->self);
	return cgrp;
}

#ifdef CONFIG_MEMCG
struct cgroup_subsys_state *
kptr_defer_guard_helper_mem_cgroup_css(struct mem_cgroup *memcg)
{
	return &memcg->css;
}

struct mem_cgroup *kptr_defer_guard_helper_mem_cgroup_stand_in_new(void)
{
	struct mem_cgroup *memcg = kzalloc(sizeof(*memcg), GFP_KERNEL);

	if (memcg)
		css_stand_in(&memcg->css);
	return memcg;
}
#endif

void kptr_defer_guard_helper_trace_last_ref(const char *function, const void *object,
					    const char *would_have)
{
	trace_guard_last_ref(function, object, would_have);
}
