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
 *
 * The kinds, and where a program that runs in NMI finds such an object:
 *
 *	task	bpf_get_current_task_btf(), bpf_task_from_pid()
 *	cgroup	bpf_get_current_task_btf()->cgroups->dfl_cgrp
 *	cred	bpf_kptr_defer_task_cred(task)
 *	file	bpf_kptr_defer_file_acquire_fd(fd), mm->exe_file of an mm below
 *	mm	bpf_kptr_defer_current_mm()
 *
 * and also where the verifier takes a pointer for trusted or RCU protected: the
 * arguments of tp_btf and LSM programs; vma->vm_file of the vma iterator, but only
 * inside its loop: the iterator lets go of it, the verifier goes on trusting it.
 * Not task->real_cred, task->mm or task->files as such: a kernel built with GCC has
 * no BTF type tags, without which they are read but not trusted.
 *
 * Define KPTR_DEFER_BUILT_IN before if vmlinux.h is that of a kernel with kptr_defer
 * built in: it has the structs, then.
 */
#ifndef _KPTR_DEFER_BPF_H
#define _KPTR_DEFER_BPF_H

#ifndef __ksym
#include <bpf/bpf_helpers.h>
#endif

/*
 * Of each kind:
 *
 * bpf_kptr_defer_<kind>_acquire() takes a reference to @object, which may be a
 * trusted or an RCU pointer. NULL when there is no memory, or when the object is
 * dying: its count is zero; a task is dead.
 *
 * bpf_kptr_defer_<kind>_get() tells the object, as an RCU pointer: read through it,
 * pass it to kfuncs that take one. A sleepable program calls this inside
 * bpf_rcu_read_lock().
 *
 * bpf_kptr_defer_<kind>_release() gives the reference back. Never fails.
 */
#ifdef KPTR_DEFER_BUILT_IN
#define KPTR_DEFER_STRUCT(kind, type)
#else
#define KPTR_DEFER_STRUCT(kind, type)						\
	struct kptr_defer_##kind {						\
		type *kind;							\
	} __attribute__((preserve_access_index));
#endif

#define KPTR_DEFER_KIND(kind, type)						\
	KPTR_DEFER_STRUCT(kind, type)						\
	extern struct kptr_defer_##kind *					\
	bpf_kptr_defer_##kind##_acquire(type *object) __ksym;			\
	extern type *								\
	bpf_kptr_defer_##kind##_get(struct kptr_defer_##kind *h) __ksym;	\
	extern void								\
	bpf_kptr_defer_##kind##_release(struct kptr_defer_##kind *h) __ksym;

/*
 * What _get() gives may go to bpf_task_acquire(), bpf_kptr_defer_task_cred().
 * Once the task has been reaped, do not follow its pointers to other tasks
 * (real_parent, group_leader): nothing holds those.
 */
KPTR_DEFER_KIND(task, struct task_struct)

/* To bpf_cgroup_acquire(), bpf_cgroup_ancestor(), bpf_task_under_cgroup(). */
KPTR_DEFER_KIND(cgroup, struct cgroup)

/* No kfunc of the kernel takes these three when they are RCU pointers. */
KPTR_DEFER_KIND(cred, const struct cred)

/*
 * The mount is held with the file. One that is still being opened cannot be taken,
 * as in an LSM program on file_open. Do not use f_inode any more once you have given
 * back the handle: the verifier would let a sleepable program do so.
 */
KPTR_DEFER_KIND(file, struct file)

/*
 * Only the current task's can be taken, of any other acquire gives NULL. The whole
 * address space is held, with all that is mapped there: long after the end of its
 * process, if you like. It is always given back in process context.
 */
KPTR_DEFER_KIND(mm, struct mm_struct)

#undef KPTR_DEFER_KIND
#undef KPTR_DEFER_STRUCT

/*
 * The objective credentials of a task, as an RCU pointer; NULL when it is dead.
 */
extern const struct cred *
bpf_kptr_defer_task_cred(struct task_struct *task) __ksym;

/*
 * The address space of the current task, as an RCU pointer; NULL for a kernel
 * thread.
 */
extern struct mm_struct *
bpf_kptr_defer_current_mm(void) __ksym;

/*
 * Takes a reference to the file that the current task has open as @fd. NULL when
 * there is none or no memory, or when another thread is closing it.
 */
extern struct kptr_defer_file *
bpf_kptr_defer_file_acquire_fd(__u32 fd) __ksym;

#endif /* _KPTR_DEFER_BPF_H */
