/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kptr_defer for BPF programs. Include after vmlinux.h and bpf_helpers.h.
 *
 * A handle holds a reference to a kernel object. Keep it in a map:
 *
 *	struct value {
 *		struct kptr_defer_task __kptr *task;
 *	};
 *
 * and give it back from any program, in NMI too:
 *
 *	h = bpf_kptr_defer_task_acquire(bpf_get_current_task_btf());
 *	if (h)
 *		h = bpf_kptr_xchg(&value->task, h);
 *	if (h)
 *		bpf_kptr_defer_task_release(h);
 *
 * Take the old handle out of an element, with bpf_kptr_xchg(), before you
 * delete it or reuse it: since Linux 7.2 a deleted element keeps its kptrs, and
 * the next user of its memory finds them.
 */
#ifndef _KPTR_DEFER_BPF_H
#define _KPTR_DEFER_BPF_H

#ifndef __ksym
#include <bpf/bpf_helpers.h>
#endif

struct kptr_defer_task {
	struct task_struct *task;
} __attribute__((preserve_access_index));

/*
 * Takes a reference to @task, which may be a trusted or an RCU pointer. NULL
 * when there is no memory, or when the task is dead already.
 */
extern struct kptr_defer_task *
bpf_kptr_defer_task_acquire(struct task_struct *task) __ksym;

/*
 * The task, as an RCU pointer: read through it, pass it to kfuncs that take one
 * (bpf_task_acquire(), bpf_kptr_defer_task_acquire()). A sleepable program calls
 * this inside bpf_rcu_read_lock(). Once the task has been reaped, do not follow
 * its pointers to other tasks (real_parent, group_leader): nothing holds those.
 */
extern struct task_struct *
bpf_kptr_defer_task_get(struct kptr_defer_task *h) __ksym;

/* Gives the reference back. Never fails. */
extern void bpf_kptr_defer_task_release(struct kptr_defer_task *h) __ksym;

#endif /* _KPTR_DEFER_BPF_H */
