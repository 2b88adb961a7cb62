// SPDX-License-Identifier: GPL-2.0
/*
 * Where the memory of handles is allocated and freed. No program or map in here knows
 * of handles, so nothing pins the module.
 */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1000);
	__type(key, u64);
	__type(value, u64);
} blocks SEC(".maps");

/* Not fexit, which would pin the module. */
SEC("kretprobe/kptr_defer_helper_kmalloc_nolock")
int BPF_KRETPROBE(allocated, u64 block)
{
	u64 one = 1;

	if (block && !bpf_map_update_elem(&blocks, &block, &one, BPF_NOEXIST))
		count(objects);
	return 0;
}

SEC("fentry/kfree_nolock")
int BPF_PROG(freed, u64 block)
{
	if (!bpf_map_delete_elem(&blocks, &block))
		count(freed);
	return 0;
}
