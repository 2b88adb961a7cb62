// SPDX-License-Identifier: GPL-2.0-only
/*
 * Giving back a reference from any context, NMI included.
 *
 * Where interrupts are off a program may have interrupted call_rcu() or
 * queue_work(), which is what the last reference to a task or a cgroup leads
 * to. There any reference but the last is given back, in one atomic step. The
 * last one is put on a list, still held, and given back from an irq_work.
 *
 * The list needs no memory of its own: both objects have some that is for their
 * own end only, task->rcu and css->destroy_work. As long as there is a reference
 * nobody else uses that, and while the last one is on the list there is one:
 *
 *	references	who holds them
 *	2		a program and somebody else; 2 -> 1 is not the last
 *	1		a program: not put, but put on the list
 *	1		the list
 *	2, 1, 2, 1	the list, and others that come and go: never the last
 *	1		the irq_work: 1 -> 0, the object dies as ever
 *
 * So nothing is on the list twice. If the irq_work finds that there are others,
 * what it puts is not the last reference, and the last one may be put on the
 * list again.
 */

#include <linux/bpf_last_ref.h>
#include <linux/build_bug.h>
#include <linux/cgroup.h>
#include <linux/container_of.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/llist.h>
#include <linux/percpu-refcount.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

/* What there is in the memory that the object has for its own end. */
struct last_ref {
	struct llist_node node;
	void (*put)(struct last_ref *ref);
};

static_assert(sizeof(struct last_ref) <= sizeof_field(struct task_struct, rcu));

static LLIST_HEAD(last_refs);

/*
 * More than one CPU may be at it at a time, each with what it has taken. An
 * object may be on the list again as soon as its reference has been put.
 */
static void put_last_refs(struct irq_work *work)
{
	struct last_ref *ref, *next;

	llist_for_each_entry_safe(ref, next, llist_del_all(&last_refs), node)
		ref->put(ref);
}

/*
 * What is called takes raw locks only. On PREEMPT_RT the thread that other
 * irq_work runs in stops before its CPU does, with what an NMI queues later.
 */
static struct irq_work last_refs_work = IRQ_WORK_INIT_HARD(put_last_refs);

static void put_later(struct last_ref *ref, void (*put)(struct last_ref *ref))
{
	ref->put = put;
	if (llist_add(&ref->node, &last_refs))
		irq_work_queue(&last_refs_work);
}

/* Nothing else than now can be done in NMI where an llist cannot be used there. */
static bool must_not_put_last(void)
{
	if (!IS_ENABLED(CONFIG_ARCH_HAVE_NMI_SAFE_CMPXCHG) && in_nmi())
		return false;
	return irqs_disabled();
}

static void put_last_task(struct last_ref *ref)
{
	put_task_struct_rcu_user(container_of((struct rcu_head *)ref, struct task_struct, rcu));
}

/**
 * bpf_put_task - put_task_struct_rcu_user() for any context
 * @task: the task to give back a reference to
 */
void bpf_put_task(struct task_struct *task)
{
	if (!must_not_put_last()) {
		put_task_struct_rcu_user(task);
		return;
	}
	if (refcount_dec_not_one(&task->rcu_users))
		return;
	/* The irq_work may have put another one just now: it is done with the memory. */
	smp_acquire__after_ctrl_dep();
	put_later((struct last_ref *)&task->rcu, put_last_task);
}

#ifdef CONFIG_CGROUPS
static_assert(sizeof(struct last_ref) <=
	      sizeof_field(struct cgroup_subsys_state, destroy_work));

static void put_last_css(struct last_ref *ref)
{
	css_put(container_of((struct work_struct *)ref, struct cgroup_subsys_state,
			     destroy_work));
}

/**
 * bpf_put_css - css_put() for any context
 * @css: the css to give back a reference to
 */
void bpf_put_css(struct cgroup_subsys_state *css)
{
	if (!must_not_put_last()) {
		css_put(css);
		return;
	}
	if (css->flags & CSS_NO_REF || percpu_ref_put_unless_last(&css->refcnt))
		return;
	put_later((struct last_ref *)&css->destroy_work, put_last_css);
}

/**
 * bpf_put_cgroup - cgroup_put() for any context
 * @cgrp: the cgroup to give back a reference to
 */
void bpf_put_cgroup(struct cgroup *cgrp)
{
	bpf_put_css(&cgrp->self);
}
#endif
