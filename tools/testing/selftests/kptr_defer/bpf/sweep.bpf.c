// SPDX-License-Identifier: GPL-2.0
/*
 * The NMI that lands on a chosen instruction, and the paths that it lands in: taking
 * and giving back handles of all kinds.
 */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern bool kptr_defer_test_sweep_nmi(void) __ksym;

#define POINTS 4U

/* Read and written by src/sweep.rs. */
struct point {
	u64 address;
	u64 hits;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POINTS);
	__type(key, u32);
	__type(value, struct point);
} points SEC(".maps");

struct handles {
	struct kptr_defer_task __kptr *task;
	struct kptr_defer_cgroup __kptr *cgroup;
	struct kptr_defer_cred __kptr *cred;
	struct kptr_defer_file __kptr *file;
	struct kptr_defer_mm __kptr *mm;
};

struct per_cpu {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct handles);
};

/* The NMI does not take away from the interrupted what that has just put there. */
struct per_cpu of_nmi SEC(".maps");
struct per_cpu of_process SEC(".maps");

/* A handle on @object goes into @handles, the one that was there is given back. */
#define REPLACE(handles, kind, object) do {				\
	struct kptr_defer_##kind *h = bpf_kptr_defer_##kind##_acquire(object); \
									\
	if (h)								\
		count(acquired);					\
	else								\
		count(acquire_failed);					\
	h = bpf_kptr_xchg(&(handles)->kind, h);				\
	if (h)								\
		bpf_kptr_defer_##kind##_release(h);			\
} while (0)

static __always_inline int replace_all(void *map)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct handles *handles;
	const struct cred *cred;
	struct mm_struct *mm;
	struct file *file;
	u32 key = 0;

	handles = bpf_map_lookup_elem(map, &key);
	if (!handles)
		return 0;
	REPLACE(handles, task, task);
	REPLACE(handles, cgroup, task->cgroups->dfl_cgrp);
	cred = bpf_kptr_defer_task_cred(task);
	if (cred)
		REPLACE(handles, cred, (struct cred *)cred);
	mm = bpf_kptr_defer_current_mm();
	if (!mm)
		return 0;
	REPLACE(handles, mm, mm);
	file = mm->exe_file;
	if (file)
		REPLACE(handles, file, file);
	return 0;
}

/* At a point in the drain a drop brings about the next hit. */
#define HITS_THAT_DROP 3

SEC("perf_event")
int perf_point(struct bpf_perf_event_data *ctx)
{
	u64 address = PT_REGS_IP(&ctx->regs);
	bool drops = false;
	u32 i;

	count_run();
	bpf_for(i, 0, POINTS) {
		u32 key = i;
		struct point *point = bpf_map_lookup_elem(&points, &key);

		if (point && point->address == address)
			drops = __sync_fetch_and_add(&point->hits, 1) < HITS_THAT_DROP;
	}
	return drops && kptr_defer_test_sweep_nmi() ? replace_all(&of_nmi) : 0;
}

SEC("syscall")
int replace_in_process(void *ctx)
{
	int result;

	bpf_rcu_read_lock();
	result = replace_all(&of_process);
	bpf_rcu_read_unlock();
	return result;
}
