// SPDX-License-Identifier: GPL-2.0
/* Programs that must not load. src/verifier.rs says why, for each by its name. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct task_value);
} slot SEC(".maps");

struct raw_task_value {
	struct task_struct __kptr *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct raw_task_value);
} raw_slot SEC(".maps");

extern void bpf_task_release(struct task_struct *p) __ksym;

static __always_inline struct kptr_defer_task *take_current(void)
{
	return bpf_kptr_defer_task_acquire(bpf_get_current_task_btf());
}

/* Not one of them: shows that what the others differ in is what is rejected. */
SEC("perf_event")
int accepted(void *ctx)
{
	struct kptr_defer_task *h = take_current();

	if (h)
		bpf_kptr_defer_task_release(h);
	return 0;
}

SEC("perf_event")
int leaked(void *ctx)
{
	take_current();
	return 0;
}

SEC("perf_event")
int overwritten_in_map(void *ctx)
{
	struct task_value *value;
	u32 key = 0;

	value = bpf_map_lookup_elem(&slot, &key);
	if (value)
		bpf_kptr_xchg(&value->task, NULL);
	return 0;
}

SEC("perf_event")
int released_twice(void *ctx)
{
	struct kptr_defer_task *h = take_current();

	if (!h)
		return 0;
	bpf_kptr_defer_task_release(h);
	bpf_kptr_defer_task_release(h);
	return 0;
}

SEC("perf_event")
int used_after_release(void *ctx)
{
	struct kptr_defer_task *h = take_current();
	int pid = 0;

	if (!h)
		return 0;
	bpf_kptr_defer_task_release(h);
	bpf_probe_read_kernel(&pid, sizeof(pid), &h->task->pid);
	return pid;
}

SEC("perf_event")
int not_checked_for_null(void *ctx)
{
	bpf_kptr_defer_task_release(take_current());
	return 0;
}

SEC("perf_event")
int released_without_acquire(void *ctx)
{
	bpf_kptr_defer_task_release((void *)bpf_get_current_task_btf());
	return 0;
}

SEC("perf_event")
int released_as_task(void *ctx)
{
	struct kptr_defer_task *h = take_current();

	if (h)
		bpf_task_release((void *)h);
	return 0;
}

SEC("perf_event")
int acquired_from_number(void *ctx)
{
	struct kptr_defer_task *h = bpf_kptr_defer_task_acquire((void *)bpf_get_current_task());

	if (h)
		bpf_kptr_defer_task_release(h);
	return 0;
}

SEC("perf_event")
int acquired_from_handle(void *ctx)
{
	struct kptr_defer_task *first = take_current();
	struct kptr_defer_task *h;

	if (!first)
		return 0;
	h = bpf_kptr_defer_task_acquire((void *)first);
	if (h)
		bpf_kptr_defer_task_release(h);
	bpf_kptr_defer_task_release(first);
	return 0;
}

SEC("perf_event")
int put_into_wrong_slot(void *ctx)
{
	struct raw_task_value *value;
	struct kptr_defer_task *h;
	struct task_struct *old;
	u32 key = 0;

	value = bpf_map_lookup_elem(&raw_slot, &key);
	if (!value)
		return 0;
	h = take_current();
	if (!h)
		return 0;
	old = bpf_kptr_xchg(&value->task, (struct task_struct *)h);
	if (old)
		bpf_task_release(old);
	return 0;
}

SEC("perf_event")
int loaded_from_map(void *ctx)
{
	struct kptr_defer_task *h;
	struct task_value *value;
	u32 key = 0;

	value = bpf_map_lookup_elem(&slot, &key);
	if (!value)
		return 0;
	h = value->task;
	if (h)
		bpf_kptr_defer_task_release(h);
	return 0;
}
