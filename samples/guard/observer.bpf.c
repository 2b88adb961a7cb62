// SPDX-License-Identifier: GPL-2.0
/* Looks at what the kernel does meanwhile. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

/* What came of the tasks and cgroups. All of .bss; read as struct Observed by main.rs. */
struct observed {
	__u64 breakpoints_in_nmi;
	__u64 call_rcu_in_nmi;
	__u64 queue_work_in_nmi;
	__u64 tasks_freed;
	__u64 cgroups_freed;
} observed = {};

#define count(what) ((void)__sync_fetch_and_add(&observed.what, 1))

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} pids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u8);
} cgroups SEC(".maps");

/*
 * What in_nmi() looks at. The bits moved in Linux 7.3, to make room for the count of
 * local_interrupt_disable().
 */
#define NMI_MASK 0x70000000
#define NMI_MASK_BEFORE 0x00f00000

extern const int __preempt_count __ksym;
extern const unsigned long local_interrupt_disable_state __ksym __weak;

static __always_inline bool in_nmi(void)
{
	const int *count = bpf_this_cpu_ptr(&__preempt_count);

	if (bpf_ksym_exists(&local_interrupt_disable_state))
		return *count & NMI_MASK;
	return *count & NMI_MASK_BEFORE;
}

/* Handles the debug registers. That it is in NMI then shows that in_nmi() works. */
SEC("fentry/hw_breakpoint_exceptions_notify")
int BPF_PROG(breakpoint_hit)
{
	if (in_nmi())
		count(breakpoints_in_nmi);
	return 0;
}

SEC("fentry/call_rcu")
int BPF_PROG(call_rcu_called)
{
	if (in_nmi())
		count(call_rcu_in_nmi);
	return 0;
}

SEC("fentry/queue_work_on")
int BPF_PROG(queue_work_called)
{
	if (in_nmi())
		count(queue_work_in_nmi);
	return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(task_freed, struct task_struct *task)
{
	__u32 pid = task->pid;

	if (!bpf_map_delete_elem(&pids, &pid))
		count(tasks_freed);
	return 0;
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(cgroup_freed, struct cgroup *cgroup, const char *path)
{
	__u64 id = cgroup->kn->id;

	if (!bpf_map_delete_elem(&cgroups, &id))
		count(cgroups_freed);
	return 0;
}
