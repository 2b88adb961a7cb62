// SPDX-License-Identifier: GPL-2.0
/*
 * What BPF has to see: pahole leaves Rust out of BTF, so that kfuncs, their
 * types and destructors are defined here. The work is done in Rust.
 */

#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>

#include "shim.h"

char *kptr_defer_when = "nmi";
module_param_named(defer_when, kptr_defer_when, charp, 0444);
MODULE_PARM_DESC(defer_when, "Defer drops: in NMI (nmi, the default), also with interrupts off (irqsoff), always (always, for tests)");

EXPORT_SYMBOL_GPL(kptr_defer_drop);
EXPORT_SYMBOL_GPL(kptr_defer_barrier);

__bpf_kfunc_start_defs();

/**
 * bpf_kptr_defer_task_acquire() - take a reference to a task, as a handle
 * @task: a trusted or RCU pointer
 *
 * Context: any, NMI included.
 * Return: The handle, to be kept in a map or given back; NULL when there is no
 * memory, or when the task is dead.
 */
__bpf_kfunc struct kptr_defer_task *bpf_kptr_defer_task_acquire(struct task_struct *task)
{
	return kptr_defer_rust_task_acquire(task);
}

/**
 * bpf_kptr_defer_task_get() - the task that a handle holds
 * @handle: the handle
 *
 * Context: any; sleepable programs call it under bpf_rcu_read_lock().
 * Return: The task, as an RCU pointer.
 */
__bpf_kfunc struct task_struct *bpf_kptr_defer_task_get(struct kptr_defer_task *handle)
{
	return handle->task;
}

/**
 * bpf_kptr_defer_task_release() - give back the reference that a handle holds
 * @handle: the handle, gone with this
 *
 * Context: any, NMI included. Never fails.
 */
__bpf_kfunc void bpf_kptr_defer_task_release(struct kptr_defer_task *handle)
{
	kptr_defer_rust_task_release(handle);
}

/* What the teardown of a map calls. */
__bpf_kfunc void bpf_kptr_defer_task_release_dtor(void *handle)
{
	kptr_defer_rust_task_release(handle);
}

CFI_NOSEAL(bpf_kptr_defer_task_release_dtor);

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(kptr_defer_kfuncs)
BTF_ID_FLAGS(func, bpf_kptr_defer_task_acquire, KF_ACQUIRE | KF_RET_NULL | KF_RCU)
BTF_ID_FLAGS(func, bpf_kptr_defer_task_get, KF_RCU_PROTECTED)
BTF_ID_FLAGS(func, bpf_kptr_defer_task_release, KF_RELEASE)
BTF_KFUNCS_END(kptr_defer_kfuncs)

BTF_ID_LIST(kptr_defer_dtor_ids)
BTF_ID(struct, kptr_defer_task)
BTF_ID(func, bpf_kptr_defer_task_release_dtor)

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
	const struct btf_id_dtor_kfunc dtors[] = {
		{
			.btf_id		= kptr_defer_dtor_ids[0],
			.kfunc_btf_id	= kptr_defer_dtor_ids[1],
		},
	};
	const struct btf_kfunc_id_set set = {
		.owner	= owner,
		.set	= &kptr_defer_kfuncs,
	};
	int i, ret;

	/* Built in, there is no module, and the BTF is that of vmlinux. */
	if (owner && !kptr_defer_has_btf(owner))
		return -ENOENT;

	ret = register_btf_id_dtor_kfuncs(dtors, ARRAY_SIZE(dtors), owner);
	for (i = 0; !ret && i < ARRAY_SIZE(kptr_defer_prog_types); i++)
		ret = register_btf_kfunc_id_set(kptr_defer_prog_types[i], &set);
	return ret;
}
