// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that must not load, for each kind of object, and some that must.
 * src/kinds_verifier.rs says why, for each by its name.
 */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern int bpf_path_d_path(const struct path *path, char *buf, size_t buf__sz) __ksym;
extern int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *task,
				 u64 addr) __ksym;
extern struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it) __ksym;
extern void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it) __ksym;

#define current() bpf_get_current_task_btf()

/* RCU pointers, and some that are not, whether or not the BTF tells __rcu ones. */
#define found_task() current()
#define walked_task() (current()->last_wakee)
#define found_cgroup() (current()->cgroups->dfl_cgrp)
#define walked_cgroup() (current()->cgroups->dfl_cgrp->dom_cgrp)
#define found_cred() bpf_kptr_defer_task_cred(current())
#define walked_cred() cred_of(exe_file())
#define found_file() exe_file()
#define walked_file() (current()->files->fd_array[0])
#define found_mm() bpf_kptr_defer_current_mm()
#define walked_mm() (current()->mm)

static __always_inline struct file *exe_file(void)
{
	struct mm_struct *mm = found_mm();

	return mm ? mm->exe_file : NULL;
}

static __always_inline const struct cred *cred_of(struct file *file)
{
	return file ? file->f_cred : NULL;
}

/* Another kind's. */
#define release_another_task(h) bpf_kptr_defer_cgroup_release((void *)(h))
#define release_another_cgroup(h) bpf_kptr_defer_cred_release((void *)(h))
#define release_another_cred(h) bpf_kptr_defer_file_release((void *)(h))
#define release_another_file(h) bpf_kptr_defer_mm_release((void *)(h))
#define release_another_mm(h) bpf_kptr_defer_task_release((void *)(h))

#define KIND(kind, object_type)						\
static __always_inline struct kptr_defer_##kind *take_##kind(void)	\
{									\
	object_type *object = found_##kind();				\
									\
	return object ? bpf_kptr_defer_##kind##_acquire(object) : NULL;	\
}									\
									\
SEC("perf_event")							\
int accepted_##kind(void *ctx)						\
{									\
	struct kptr_defer_##kind *h = take_##kind();			\
									\
	if (h)								\
		bpf_kptr_defer_##kind##_release(h);			\
	return 0;							\
}									\
									\
SEC("perf_event")							\
int leaked_##kind(void *ctx)						\
{									\
	take_##kind();							\
	return 0;							\
}									\
									\
SEC("perf_event")							\
int released_twice_##kind(void *ctx)					\
{									\
	struct kptr_defer_##kind *h = take_##kind();			\
									\
	if (!h)								\
		return 0;						\
	bpf_kptr_defer_##kind##_release(h);				\
	bpf_kptr_defer_##kind##_release(h);				\
	return 0;							\
}									\
									\
SEC("perf_event")							\
int released_as_another_##kind(void *ctx)				\
{									\
	struct kptr_defer_##kind *h = take_##kind();			\
									\
	if (h)								\
		release_another_##kind(h);				\
	return 0;							\
}									\
									\
SEC("perf_event")							\
int acquired_untrusted_##kind(void *ctx)				\
{									\
	object_type *object = walked_##kind();				\
	struct kptr_defer_##kind *h;					\
									\
	if (!object)							\
		return 0;						\
	h = bpf_kptr_defer_##kind##_acquire(object);			\
	if (h)								\
		bpf_kptr_defer_##kind##_release(h);			\
	return 0;							\
}									\
									\
SEC("syscall")								\
int got_outside_rcu_##kind(void *ctx)					\
{									\
	struct kptr_defer_##kind *h;					\
									\
	bpf_rcu_read_lock();						\
	h = take_##kind();						\
	bpf_rcu_read_unlock();						\
	if (!h)								\
		return 0;						\
	bpf_kptr_defer_##kind##_get(h);					\
	bpf_kptr_defer_##kind##_release(h);				\
	return 0;							\
}									\
									\
SEC("syscall")								\
int acquired_after_rcu_##kind(void *ctx)				\
{									\
	struct kptr_defer_##kind *h, *again = NULL;			\
	object_type *object = NULL;					\
									\
	bpf_rcu_read_lock();						\
	h = take_##kind();						\
	if (h)								\
		object = bpf_kptr_defer_##kind##_get(h);		\
	bpf_rcu_read_unlock();						\
	if (!h)								\
		return 0;						\
	bpf_kptr_defer_##kind##_release(h);				\
	if (object)							\
		again = bpf_kptr_defer_##kind##_acquire(object);	\
	if (again)							\
		bpf_kptr_defer_##kind##_release(again);			\
	return 0;							\
}

KIND(task, struct task_struct)
KIND(cgroup, struct cgroup)
KIND(cred, const struct cred)
KIND(file, struct file)
KIND(mm, struct mm_struct)

#define FOUND_IN_SYSCALL(kind, object_type)	\
SEC("syscall")					\
int found_outside_rcu_##kind(void *ctx)		\
{						\
	return !!found_##kind();		\
}

FOUND_IN_SYSCALL(cred, const struct cred)
FOUND_IN_SYSCALL(mm, struct mm_struct)

#define FOUND_NULL(kind)					\
SEC("perf_event")						\
int not_checked_for_null_##kind(void *ctx)			\
{								\
	struct kptr_defer_##kind *h;				\
								\
	h = bpf_kptr_defer_##kind##_acquire(found_##kind());	\
	if (h)							\
		bpf_kptr_defer_##kind##_release(h);		\
	return 0;						\
}

FOUND_NULL(cred)
FOUND_NULL(file)
FOUND_NULL(mm)

/* A kfunc that wants more than an RCU pointer. */
SEC("lsm/file_open")
int BPF_PROG(passed_to_d_path_file, struct file *opened)
{
	struct kptr_defer_file *h = bpf_kptr_defer_file_acquire(opened);
	struct file *file;
	char path[64];

	if (!h)
		return 0;
	file = bpf_kptr_defer_file_get(h);
	bpf_path_d_path(&file->f_path, path, sizeof(path));
	bpf_kptr_defer_file_release(h);
	return 0;
}

/* Another way to objects that the verifier trusts. */

SEC("perf_event")
int accepted_vma(void *ctx)
{
	struct kptr_defer_file *file = NULL;
	struct kptr_defer_mm *mm = NULL;
	struct bpf_iter_task_vma it;
	struct vm_area_struct *vma;
	struct mm_struct *vm_mm;
	struct file *vm_file;

	bpf_iter_task_vma_new(&it, current(), 0);
	vma = bpf_iter_task_vma_next(&it);
	if (vma) {
		vm_mm = vma->vm_mm;
		vm_file = vma->vm_file;
		if (vm_mm)
			mm = bpf_kptr_defer_mm_acquire(vm_mm);
		if (vm_file)
			file = bpf_kptr_defer_file_acquire(vm_file);
	}
	bpf_iter_task_vma_destroy(&it);
	if (mm)
		bpf_kptr_defer_mm_release(mm);
	if (file)
		bpf_kptr_defer_file_release(file);
	return 0;
}
