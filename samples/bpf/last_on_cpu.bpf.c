// SPDX-License-Identifier: GPL-2.0
/*
 * Holds the task that each CPU was last seen running in an NMI.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "kptr_defer.bpf.h"

struct last {
	struct kptr_defer_task __kptr *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct last);
} last_on_cpu SEC(".maps");

SEC("perf_event")
int sample(void *ctx)
{
	struct kptr_defer_task *handle;
	struct last *last;
	__u32 zero = 0;

	last = bpf_map_lookup_elem(&last_on_cpu, &zero);
	if (!last)
		return 0;
	handle = bpf_kptr_defer_task_acquire(bpf_get_current_task_btf());
	if (!handle)		/* no memory */
		return 0;
	handle = bpf_kptr_xchg(&last->task, handle);
	if (handle)		/* the one before; fine in NMI */
		bpf_kptr_defer_task_release(handle);
	return 0;
}

/* The context of show(). */
struct seen {
	__u32 cpu;		/* in */
	__s32 pid;		/* out */
	char comm[16];
};

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

/* The task may be long dead: what the handle holds can be read all the same. */
SEC("syscall")
int show(struct seen *seen)
{
	struct kptr_defer_task *handle;
	struct task_struct *task;
	struct last *last;
	__u32 zero = 0;

	last = bpf_map_lookup_percpu_elem(&last_on_cpu, &zero, seen->cpu);
	if (!last)
		return 1;
	handle = bpf_kptr_xchg(&last->task, NULL);
	if (!handle)
		return 1;

	bpf_rcu_read_lock();
	task = bpf_kptr_defer_task_get(handle);
	seen->pid = task->pid;
	__builtin_memcpy(seen->comm, task->comm, sizeof(seen->comm));
	bpf_rcu_read_unlock();

	handle = bpf_kptr_xchg(&last->task, handle);
	if (handle)		/* an NMI has put one there meanwhile */
		bpf_kptr_defer_task_release(handle);
	return 0;
}

char _license[] SEC("license") = "GPL";
