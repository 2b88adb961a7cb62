// SPDX-License-Identifier: GPL-2.0
/* Handles that are there before all memory is gone, and more that are asked for. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct slots {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1000);
	__type(key, u32);
	__type(value, struct task_value);
};

struct slots before SEC(".maps");
struct slots after SEC(".maps");

#define HELD 200U

static __always_inline struct kptr_defer_task *
exchange(struct slots *map, u32 key, struct kptr_defer_task *h)
{
	struct task_value *value = bpf_map_lookup_elem(map, &key);

	return value ? bpf_kptr_xchg(&value->task, h) : h;
}

SEC("syscall")
int hold(void *ctx)
{
	struct kptr_defer_task *h;
	u32 key;

	bpf_for(key, 0, HELD) {
		h = exchange(&before, key, take(bpf_get_current_task_btf()));
		if (h)
			give_back(h);
	}
	return 0;
}

/* Into slots that are empty: how many are full shows what was to be had. */
SEC("fentry/kptr_defer_test_nmi_point")
int acquire(void *ctx)
{
	struct kptr_defer_task *h;
	u32 key;

	count_run();
	bpf_for(key, 0, 1000) {
		h = exchange(&after, key, NULL);
		if (!h)
			h = take(bpf_get_current_task_btf());
		if (h)
			h = exchange(&after, key, h);
		if (h)
			give_back(h);
	}
	return 0;
}

/* Half of what is held of each, the rest is left to the teardown of the maps. */
SEC("fentry/kptr_defer_test_nmi_point")
int release(void *ctx)
{
	struct kptr_defer_task *h;
	u32 key;

	count_run();
	bpf_for(key, 0, 1000) {
		if (key % 2)
			continue;
		h = exchange(&before, key, NULL);
		if (h)
			give_back(h);
		h = exchange(&after, key, NULL);
		if (h)
			give_back(h);
	}
	return 0;
}
