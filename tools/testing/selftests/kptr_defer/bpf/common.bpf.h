/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KPTR_DEFER_TEST_COMMON_BPF_H
#define _KPTR_DEFER_TEST_COMMON_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <kptr_defer.bpf.h>
#include "in_nmi.bpf.h"

/* In the objects of the test modules. */
#ifndef KPTR_DEFER_BUILT_IN
struct kptr_defer_slot {
	struct llist_node node;
} __attribute__((preserve_access_index));
#endif

/* in_nmi() of the kernel, from kptr_defer_test_nmi.ko. */
extern bool kptr_defer_test_in_nmi(void) __ksym;

/* What the programs saw. Read as struct Counted by src/bpf.rs. */
struct counted {
	__u64 nmi;		/* runs of an NMI program in NMI */
	__u64 not_nmi;		/* and elsewhere */
	__u64 acquired;
	__u64 acquired_in_nmi;
	__u64 acquire_failed;
	__u64 released;		/* by a program: teardown is not counted */
	__u64 released_in_nmi;
	__u64 last_in_nmi;	/* of those, a task's last reference */
	__u64 call_rcu_in_nmi;	/* what dropping one there would do */
	__u64 objects;		/* that were taken, each of which is counted once */
	__u64 freed;		/* of those */
	__u64 freed_while_held;
	__u64 put_in_nmi;	/* any function that nobody should call there */
	__u64 ended_in_kworker;	/* address spaces: they are taken apart */
	__u64 freed_in_kworker;	/* and then freed */
	__u64 freed_in_hardirq;
	__u64 taking;		/* programs that have begun to take handles */
	__u64 dying_refused;	/* no handle on an object that is being freed */
};

/* The one global variable, so that it is all of .bss. */
struct counted counted = {};

#define count(what) ((void)__sync_fetch_and_add(&counted.what, 1))

#define PF_WQ_WORKER 0x00000020

static __always_inline bool in_kworker(void)
{
	return bpf_get_current_task_btf()->flags & PF_WQ_WORKER;
}

/* For programs that are there to run in NMI. */
static __always_inline void count_run(void)
{
	if (kptr_defer_test_in_nmi())
		count(nmi);
	else
		count(not_nmi);
}

static __always_inline struct kptr_defer_task *take(struct task_struct *task)
{
	struct kptr_defer_task *h = bpf_kptr_defer_task_acquire(task);

	if (!h) {
		count(acquire_failed);
		return NULL;
	}
	count(acquired);
	if (kptr_defer_test_in_nmi())
		count(acquired_in_nmi);
	return h;
}

static __always_inline void give_back(struct kptr_defer_task *h)
{
	count(released);
	if (kptr_defer_test_in_nmi()) {
		count(released_in_nmi);
		if (h->task->usage.refs.counter == 1)
			count(last_in_nmi);
	}
	bpf_kptr_defer_task_release(h);
}

struct task_value {
	struct kptr_defer_task __kptr *task;
};

/* A new handle on @task goes into @value, the one that was there is given back. */
static __always_inline void replace(struct task_value *value, struct task_struct *task)
{
	struct kptr_defer_task *h = take(task);

	h = bpf_kptr_xchg(&value->task, h);
	if (h)
		give_back(h);
}

#endif
