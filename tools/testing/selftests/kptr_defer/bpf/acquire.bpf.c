// SPDX-License-Identifier: GPL-2.0
/* Acquire where it is refused, or may be. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

/* A task that nobody can find any more, but that is not freed yet. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(dead_task, struct task_struct *task)
{
	struct kptr_defer_task *h = take(task);

	if (h)
		give_back(h);
	return 0;
}

#define MANY 2000

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MANY);
	__type(key, u32);
	__type(value, struct task_value);
} many_slots SEC(".maps");

/* More handles than there is memory for in NMI on PREEMPT_RT. */
static __always_inline int take_many(void)
{
	struct task_value *value;
	u32 key;

	count_run();
	bpf_for(key, 0, MANY) {
		u32 copy = key;

		value = bpf_map_lookup_elem(&many_slots, &copy);
		if (value)
			replace(value, bpf_get_current_task_btf());
	}
	return 0;
}

IN_NMI(many, take_many())
