// SPDX-License-Identifier: GPL-2.0
/*
 * What BPF has to see: pahole leaves Rust out of BTF, so that kfuncs, their
 * types and destructors are defined here. The work is done in Rust.
 */

#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/sched.h>

#include "shim.h"

char *kptr_defer_when = "nmi";
module_param_named(defer_when, kptr_defer_when, charp, 0444);
MODULE_PARM_DESC(defer_when, "Defer drops: in NMI (nmi, the default), also with interrupts off (irqsoff), always (always, for tests)");

struct kptr_defer_key kptr_defer_not_only_in_nmi = { .key = STATIC_KEY_FALSE_INIT };

MODULE_VERSION(KPTR_DEFER_VERSION);

EXPORT_SYMBOL_GPL(kptr_defer_drop);
EXPORT_SYMBOL_GPL(kptr_defer_drop_sleepable);
EXPORT_SYMBOL_GPL(kptr_defer_barrier);

__bpf_kfunc_start_defs();

/*
 * kernel-doc does not expand macros: it finds a section, not a function of each kind.
 */

/**
 * DOC: The kfuncs of each kind
 *
 * ``struct kptr_defer_<kind> *bpf_kptr_defer_<kind>_acquire(object)``
 *	takes a reference to an object, which is a trusted or an RCU pointer, as a
 *	handle: to be kept in a map or given back. NULL when there is no memory, or
 *	when the object is dying. Context: any, NMI included.
 *
 * ``object bpf_kptr_defer_<kind>_get(struct kptr_defer_<kind> *handle)``
 *	tells the object that a handle holds, as an RCU pointer. Context: any;
 *	sleepable programs call it under bpf_rcu_read_lock().
 *
 * ``void bpf_kptr_defer_<kind>_release(struct kptr_defer_<kind> *handle)``
 *	gives back the reference; the handle is gone with that. Never fails.
 *	Context: any, NMI included.
 *
 * ``void bpf_kptr_defer_<kind>_release_dtor(void *handle)``
 *	is not for programs: the teardown of a map calls it.
 */
#define KPTR_DEFER_KFUNCS(kind, object_t)						\
__bpf_kfunc struct kptr_defer_##kind *bpf_kptr_defer_##kind##_acquire(object_t *object)	\
{											\
	return kptr_defer_rust_##kind##_acquire(object);				\
}											\
__bpf_kfunc object_t *bpf_kptr_defer_##kind##_get(struct kptr_defer_##kind *handle)	\
{											\
	return handle->kind;								\
}											\
__bpf_kfunc void bpf_kptr_defer_##kind##_release(struct kptr_defer_##kind *handle)	\
{											\
	kptr_defer_rust_##kind##_release(handle);					\
}											\
__bpf_kfunc void bpf_kptr_defer_##kind##_release_dtor(void *handle)			\
{											\
	kptr_defer_rust_##kind##_release(handle);					\
}											\
CFI_NOSEAL(bpf_kptr_defer_##kind##_release_dtor);

KPTR_DEFER_KINDS(KPTR_DEFER_KFUNCS)

/*
 * What programs cannot get at otherwise: without BTF type tags, which GCC does
 * not write, the verifier trusts no pointer that leads there. No kfunc gives a
 * file as a pointer: the verifier would trust its f_inode, and its memory may be
 * a file's that is still being opened.
 */

/**
 * bpf_kptr_defer_task_cred() - the objective credentials of a task
 * @task: a trusted or RCU pointer
 *
 * Context: any, NMI included; sleepable programs call it under
 * bpf_rcu_read_lock() or the like.
 * Return: The credentials, as an RCU pointer; NULL when the task is dead.
 */
__bpf_kfunc const struct cred *bpf_kptr_defer_task_cred(struct task_struct *task)
{
	return rcu_dereference_all(task->real_cred);
}

/**
 * bpf_kptr_defer_current_mm() - the address space of the current task
 *
 * No other task's: only its own lock keeps it from leaving its mm. The current
 * one does not while the program runs.
 *
 * Context: any, NMI included; sleepable programs call it under
 * bpf_rcu_read_lock() or the like.
 * Return: The mm, as an RCU pointer; NULL for a kernel thread.
 */
__bpf_kfunc struct mm_struct *bpf_kptr_defer_current_mm(void)
{
	return current->mm;
}

/**
 * bpf_kptr_defer_file_acquire_fd() - take a reference to a file that is open
 * @fd: its descriptor, of the current task
 *
 * Context: any, NMI included.
 * Return: The handle; NULL when there is no such file, or no memory, or another
 * thread is closing it.
 */
__bpf_kfunc struct kptr_defer_file *bpf_kptr_defer_file_acquire_fd(u32 fd)
{
	return kptr_defer_rust_file_acquire_fd(fd);
}

__bpf_kfunc_end_defs();

#define KPTR_DEFER_KFUNC_IDS(kind, type)						\
	BTF_ID_FLAGS(func, bpf_kptr_defer_##kind##_acquire,				\
		     KF_ACQUIRE | KF_RET_NULL | KF_RCU)					\
	BTF_ID_FLAGS(func, bpf_kptr_defer_##kind##_get, KF_RCU_PROTECTED)		\
	BTF_ID_FLAGS(func, bpf_kptr_defer_##kind##_release, KF_RELEASE)

BTF_KFUNCS_START(kptr_defer_kfuncs)
KPTR_DEFER_KINDS(KPTR_DEFER_KFUNC_IDS)
BTF_ID_FLAGS(func, bpf_kptr_defer_task_cred, KF_RCU | KF_RCU_PROTECTED | KF_RET_NULL)
BTF_ID_FLAGS(func, bpf_kptr_defer_current_mm, KF_RCU_PROTECTED | KF_RET_NULL)
BTF_ID_FLAGS(func, bpf_kptr_defer_file_acquire_fd, KF_ACQUIRE | KF_RET_NULL)
BTF_KFUNCS_END(kptr_defer_kfuncs)

#define KPTR_DEFER_DTOR_IDS(kind, type)							\
	BTF_ID(struct, kptr_defer_##kind)						\
	BTF_ID(func, bpf_kptr_defer_##kind##_release_dtor)

BTF_ID_LIST(kptr_defer_dtor_ids)
KPTR_DEFER_KINDS(KPTR_DEFER_DTOR_IDS)

#define KPTR_DEFER_ONE(kind, type) + 1
#define KPTR_DEFER_KINDS_COUNT (0 KPTR_DEFER_KINDS(KPTR_DEFER_ONE))

/*
 * TRACING also stands for tracepoint, raw tracepoint, perf_event and LSM
 * programs (bpf_prog_type_to_kfunc_hook() in kernel/bpf/btf.c).
 */
static const enum bpf_prog_type kptr_defer_prog_types[] = {
	BPF_PROG_TYPE_TRACING,
	BPF_PROG_TYPE_KPROBE,
	BPF_PROG_TYPE_STRUCT_OPS,
	BPF_PROG_TYPE_SYSCALL,
};

/*
 * Where the kernel has no BTF for this module, registering prints a warning and
 * succeeds. Something that cannot be a destructor tells: with BTF it is refused.
 */
static bool kptr_defer_has_btf(struct module *owner)
{
	const struct btf_id_dtor_kfunc no_dtor = { .btf_id = 0, .kfunc_btf_id = 0 };

	return register_btf_id_dtor_kfuncs(&no_dtor, 1, owner) == -EINVAL;
}

int kptr_defer_register_kfuncs(struct module *owner)
{
	struct btf_id_dtor_kfunc dtors[KPTR_DEFER_KINDS_COUNT];
	const struct btf_kfunc_id_set set = {
		.owner	= owner,
		.set	= &kptr_defer_kfuncs,
	};
	int i, ret;

	/* Built in, there is no module, and the BTF is that of vmlinux. */
	if (owner && !kptr_defer_has_btf(owner))
		return -ENOENT;

	for (i = 0; i < ARRAY_SIZE(dtors); i++) {
		dtors[i].btf_id = kptr_defer_dtor_ids[2 * i];
		dtors[i].kfunc_btf_id = kptr_defer_dtor_ids[2 * i + 1];
	}
	ret = register_btf_id_dtor_kfuncs(dtors, ARRAY_SIZE(dtors), owner);
	for (i = 0; !ret && i < ARRAY_SIZE(kptr_defer_prog_types); i++)
		ret = register_btf_kfunc_id_set(kptr_defer_prog_types[i], &set);
	return ret;
}
