// SPDX-License-Identifier: GPL-2.0
/* The kptr type of kptr_defer_test_sleep.ko, and handles on tasks beside it. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct kptr_defer_test_sleeper {
	struct kptr_defer_slot slot;
} __attribute__((preserve_access_index));

extern struct kptr_defer_test_sleeper *kptr_defer_test_sleeper_acquire(void) __ksym;
extern void kptr_defer_test_sleeper_release(struct kptr_defer_test_sleeper *sleeper) __ksym;

struct sleeper_value {
	struct kptr_defer_test_sleeper __kptr *sleeper;
};

#define SLOTS 8

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct sleeper_value);
} sleepers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct task_value);
} task_slot SEC(".maps");

static __always_inline void exchange(u32 key, struct kptr_defer_test_sleeper *sleeper)
{
	struct sleeper_value *value = bpf_map_lookup_elem(&sleepers, &key);

	if (value)
		sleeper = bpf_kptr_xchg(&value->sleeper, sleeper);
	if (!sleeper)
		return;
	count(released);
	if (kptr_defer_test_in_nmi())
		count(released_in_nmi);
	kptr_defer_test_sleeper_release(sleeper);
}

SEC("syscall")
int fill(void *ctx)
{
	struct kptr_defer_test_sleeper *sleeper;
	u32 key;

	bpf_for(key, 0, SLOTS) {
		sleeper = kptr_defer_test_sleeper_acquire();
		if (sleeper) {
			count(acquired);
			exchange(key, sleeper);
		}
	}
	return 0;
}

static __always_inline int empty(void)
{
	u32 key;

	count_run();
	bpf_for(key, 0, SLOTS)
		exchange(key, NULL);
	return 0;
}

SEC("fentry/kptr_defer_test_point")
int empty_on_point(void *ctx)
{
	return empty();
}

SEC("fentry/kptr_defer_test_nmi_point")
int empty_on_nmi_point(void *ctx)
{
	return empty();
}

SEC("fentry/kptr_defer_test_nmi_point")
int replace_task(void *ctx)
{
	struct task_value *value;
	u32 key = 0;

	count_run();
	value = bpf_map_lookup_elem(&task_slot, &key);
	if (value)
		replace(value, bpf_get_current_task_btf());
	return 0;
}
