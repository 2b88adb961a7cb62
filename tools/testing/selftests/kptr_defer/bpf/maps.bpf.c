// SPDX-License-Identifier: GPL-2.0
/*
 * Handles in every kind of map. A child of the workload gets one in the NMI that
 * it runs into, and the same NMI gives back the one that a child before it, dead
 * by then, has left in the slot.
 */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

/* Odd, so that the slots that one of two CPUs uses do not split by parity. */
#define SLOTS 15U

#define MAP(name, map_type, flags, entries)		\
	struct {					\
		__uint(type, map_type);			\
		__uint(map_flags, flags);		\
		__uint(max_entries, entries);		\
		__type(key, u32);			\
		__type(value, struct task_value);	\
	} name SEC(".maps")

MAP(array, BPF_MAP_TYPE_ARRAY, 0, SLOTS);
MAP(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 0, SLOTS);
MAP(hash, BPF_MAP_TYPE_HASH, 0, SLOTS);
MAP(hash_no_prealloc, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, SLOTS);
MAP(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 0, SLOTS);
MAP(lru_hash, BPF_MAP_TYPE_LRU_HASH, 0, 2 * SLOTS);
MAP(lru_percpu_hash, BPF_MAP_TYPE_LRU_PERCPU_HASH, 0, 2 * SLOTS);

static __always_inline struct task_value *element(void *map, u32 key)
{
	struct task_value *value = bpf_map_lookup_elem(map, &key);
	struct task_value empty = {};

	if (!value) {
		bpf_map_update_elem(map, &key, &empty, BPF_NOEXIST);
		value = bpf_map_lookup_elem(map, &key);
	}
	return value;
}

/* Outside NMI, where a test needs handles in a map and nothing else. */
static __always_inline void on_fork(void *map, u32 key, struct task_struct *child)
{
	struct task_value *value = element(map, key);

	if (value)
		replace(value, child);
}

/* Every fourth child takes its element out instead, and deletes it. */
static __always_inline int on_nmi(void *map, u32 key, bool can_delete)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_value *value = element(map, key);
	struct kptr_defer_task *h;

	count_run();
	if (!value)
		return 0;
	if (!can_delete || task->pid % 4U) {
		replace(value, task);
		return 0;
	}
	h = bpf_kptr_xchg(&value->task, NULL);
	if (h)
		give_back(h);
	bpf_map_delete_elem(map, &key);
	return 0;
}

#define SLOT(pid) ((pid) % SLOTS)
/*
 * LRU: a key for each child, so that elements are evicted, which leave their
 * handle to the next one in their memory.
 */
#define PID(pid) (pid)

#define PROGRAMS(map, key, can_delete)						\
SEC("tp_btf/sched_process_fork")						\
int BPF_PROG(fork_##map, struct task_struct *parent, struct task_struct *child)	\
{										\
	on_fork(&map, key(child->pid), child);					\
	return 0;								\
}										\
										\
IN_NMI(map, on_nmi(&map, key(bpf_get_current_task_btf()->pid), can_delete))

PROGRAMS(array, SLOT, false)
PROGRAMS(percpu_array, SLOT, false)
PROGRAMS(hash, SLOT, true)
PROGRAMS(hash_no_prealloc, SLOT, true)
PROGRAMS(percpu_hash, SLOT, true)
PROGRAMS(lru_hash, PID, true)
PROGRAMS(lru_percpu_hash, PID, true)

SEC("fentry/call_rcu")
int on_call_rcu(void *ctx)
{
	if (kptr_defer_test_in_nmi())
		count(call_rcu_in_nmi);
	return 0;
}
