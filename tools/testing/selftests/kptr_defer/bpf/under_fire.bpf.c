// SPDX-License-Identifier: GPL-2.0
/*
 * In each NMI handles on a task, an open file and an mm: drops that are done in a
 * hard interrupt, after an RCU grace period, and in process context.
 */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct handles {
	struct kptr_defer_task __kptr *task;
	struct kptr_defer_file __kptr *file;
	struct kptr_defer_mm __kptr *mm;
};

#define SLOTS 8

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct handles);
} handles SEC(".maps");

/* A handle on @object goes into @value, the one that was there is given back. */
#define REPLACE(kind, object) do {					\
	struct kptr_defer_##kind *h = bpf_kptr_defer_##kind##_acquire(object); \
									\
	if (h)								\
		count(acquired);					\
	h = bpf_kptr_xchg(&value->kind, h);				\
	if (h) {							\
		count(released_in_nmi);					\
		bpf_kptr_defer_##kind##_release(h);			\
	}								\
} while (0)

SEC("fentry/kptr_defer_test_nmi_point")
int fire(void *ctx)
{
	struct handles *value;
	struct mm_struct *mm;
	struct file *file;
	u32 key;

	count_run();
	bpf_for(key, 0, SLOTS) {
		u32 copy = key;

		value = bpf_map_lookup_elem(&handles, &copy);
		if (!value)
			continue;
		REPLACE(task, bpf_get_current_task_btf());
		mm = bpf_kptr_defer_current_mm();
		if (!mm)
			continue;
		REPLACE(mm, mm);
		file = mm->exe_file;
		if (file)
			REPLACE(file, file);
	}
	return 0;
}
