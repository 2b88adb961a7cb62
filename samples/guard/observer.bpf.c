// SPDX-License-Identifier: GPL-2.0
/* Looks at what the kernel does meanwhile. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

/* What came of the tasks and cgroups. All of .bss; read as struct Observed by main.rs. */
struct observed {
	__u64 nmis;
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

/* Whether this CPU is in an NMI: that of a debug register, on x86. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} in_nmi SEC(".maps");

static __always_inline __u64 *nmi_of_this_cpu(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&in_nmi, &key);
}

static __always_inline void set_in_nmi(__u64 value)
{
	__u64 *nmi = nmi_of_this_cpu();

	if (nmi)
		*nmi = value;
}

static __always_inline bool is_in_nmi(void)
{
	__u64 *nmi = nmi_of_this_cpu();

	return nmi && *nmi;
}

/* Called by exc_debug_kernel(), behind irqentry_nmi_enter(). */
SEC("fentry/hw_breakpoint_exceptions_notify")
int BPF_PROG(nmi_begins)
{
	count(nmis);
	set_in_nmi(1);
	return 0;
}

SEC("fexit/hw_breakpoint_exceptions_notify")
int BPF_PROG(nmi_ends)
{
	set_in_nmi(0);
	return 0;
}

SEC("fentry/call_rcu")
int BPF_PROG(call_rcu_called)
{
	if (is_in_nmi())
		count(call_rcu_in_nmi);
	return 0;
}

SEC("fentry/queue_work_on")
int BPF_PROG(queue_work_called)
{
	if (is_in_nmi())
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
