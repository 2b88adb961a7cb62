// SPDX-License-Identifier: GPL-2.0
/*
 * A program as people write them: it keeps tasks and cgroups in a map, and gives
 * them back when an NMI comes. It knows nothing of kptr_defer.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern struct cgroup *bpf_cgroup_from_id(u64 cgid) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgrp) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

/* The same in main.rs. */
#define PAIRS 300

struct pair {
	struct task_struct __kptr *task;
	struct cgroup __kptr *cgroup;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAIRS);
	__type(key, __u32);
	__type(value, struct pair);
} pairs SEC(".maps");

struct remember {
	__u32 slot;
	__s32 pid;
	__u64 cgroup;
};

/* Returns how many of the two it has got. */
SEC("syscall")
int remember(struct remember *args)
{
	struct task_struct *task;
	struct cgroup *cgroup;
	__u32 slot = args->slot;
	struct pair *pair;
	int got = 0;

	pair = bpf_map_lookup_elem(&pairs, &slot);
	if (!pair)
		return 0;
	task = bpf_task_from_pid(args->pid);
	if (task) {
		got++;
		task = bpf_kptr_xchg(&pair->task, task);
		if (task)
			bpf_task_release(task);
	}
	cgroup = bpf_cgroup_from_id(args->cgroup);
	if (cgroup) {
		got++;
		cgroup = bpf_kptr_xchg(&pair->cgroup, cgroup);
		if (cgroup)
			bpf_cgroup_release(cgroup);
	}
	return got;
}

/* Returns how many of them the map is not the last to hold. */
SEC("syscall")
int held_by_others(void *ctx)
{
	struct bpf_iter_num it;
	int *i, held = 0;

	bpf_rcu_read_lock();
	bpf_iter_num_new(&it, 0, PAIRS);
	while ((i = bpf_iter_num_next(&it))) {
		struct task_struct *task;
		struct cgroup *cgroup;
		struct pair *pair;
		__u32 slot = *i;

		pair = bpf_map_lookup_elem(&pairs, &slot);
		if (!pair)
			continue;
		task = pair->task;
		if (task && task->rcu_users.refs.counter != 1)
			held++;
		cgroup = pair->cgroup;
		if (cgroup && cgroup->self.refcnt.data->count.counter != 1)
			held++;
	}
	bpf_iter_num_destroy(&it);
	bpf_rcu_read_unlock();
	return held;
}

SEC("perf_event")
int forget(void *ctx)
{
	struct bpf_iter_num it;
	int *i;

	bpf_iter_num_new(&it, 0, PAIRS);
	while ((i = bpf_iter_num_next(&it))) {
		struct task_struct *task;
		struct cgroup *cgroup;
		struct pair *pair;
		__u32 slot = *i;

		pair = bpf_map_lookup_elem(&pairs, &slot);
		if (!pair)
			continue;
		task = bpf_kptr_xchg(&pair->task, NULL);
		if (task)
			bpf_task_release(task);
		cgroup = bpf_kptr_xchg(&pair->cgroup, NULL);
		if (cgroup)
			bpf_cgroup_release(cgroup);
	}
	bpf_iter_num_destroy(&it);
	return 0;
}
