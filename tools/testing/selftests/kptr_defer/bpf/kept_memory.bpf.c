// SPDX-License-Identifier: GPL-2.0
/* Handles that are taken and dropped, for what happens to their memory. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

#define HANDLES 100

/* One after the other. */
SEC("syscall")
int one_by_one(void *ctx)
{
	struct kptr_defer_task *h;
	int i;

	bpf_for(i, 0, HANDLES) {
		h = take(bpf_get_current_task_btf());
		if (h)
			give_back(h);
	}
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HANDLES);
	__type(key, u32);
	__type(value, struct task_value);
} held SEC(".maps");

/* All at once. */
SEC("syscall")
int all_at_once(void *ctx)
{
	struct task_value *value;
	u32 key;

	bpf_for(key, 0, HANDLES) {
		value = bpf_map_lookup_elem(&held, &key);
		if (value)
			replace(value, bpf_get_current_task_btf());
	}
	bpf_for(key, 0, HANDLES) {
		struct kptr_defer_task *h;

		value = bpf_map_lookup_elem(&held, &key);
		h = value ? bpf_kptr_xchg(&value->task, NULL) : NULL;
		if (h)
			give_back(h);
	}
	return 0;
}
