// SPDX-License-Identifier: GPL-2.0
/* One program of each type, all doing the same. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct task_value);
} slot SEC(".maps");

static __always_inline int replace_slot(void)
{
	struct task_value *value;
	u32 key = 0;

	value = bpf_map_lookup_elem(&slot, &key);
	if (value)
		replace(value, bpf_get_current_task_btf());
	return 0;
}

static __always_inline int replace_slot_in_nmi(void)
{
	count_run();
	return replace_slot();
}

SEC("perf_event")
int perf_replace(void *ctx)
{
	return replace_slot_in_nmi();
}

SEC("tp_btf/kptr_defer_test_nmi")
int from_tp_btf(void *ctx)
{
	return replace_slot_in_nmi();
}

SEC("raw_tp/kptr_defer_test_nmi")
int from_raw_tp(void *ctx)
{
	return replace_slot_in_nmi();
}

SEC("fentry/kptr_defer_test_nmi_point")
int from_fentry(void *ctx)
{
	return replace_slot_in_nmi();
}

SEC("kprobe/kptr_defer_test_nmi_point")
int from_kprobe(void *ctx)
{
	return replace_slot_in_nmi();
}

SEC("syscall")
int from_syscall(void *ctx)
{
	return replace_slot();
}
