// SPDX-License-Identifier: GPL-2.0
/* The kptr type of kptr_defer_test_user.ko. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct kptr_defer_test_obj {
	struct kptr_defer_slot slot;
} __attribute__((preserve_access_index));

extern struct kptr_defer_test_obj *kptr_defer_test_obj_acquire(void) __ksym;
extern void kptr_defer_test_obj_release(struct kptr_defer_test_obj *obj) __ksym;
extern bool kptr_defer_test_in_hardirq(void) __ksym;

struct obj_value {
	struct kptr_defer_test_obj __kptr *obj;
};

#define SLOTS 250

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct obj_value);
} slots SEC(".maps");

static __always_inline void exchange(u32 key, struct kptr_defer_test_obj *obj)
{
	struct obj_value *value = bpf_map_lookup_elem(&slots, &key);

	if (value)
		obj = bpf_kptr_xchg(&value->obj, obj);
	if (!obj)
		return;
	count(released);
	if (kptr_defer_test_in_nmi())
		count(released_in_nmi);
	kptr_defer_test_obj_release(obj);
}

static __always_inline struct kptr_defer_test_obj *take_obj(void)
{
	struct kptr_defer_test_obj *obj = kptr_defer_test_obj_acquire();

	if (obj)
		count(acquired);
	else
		count(acquire_failed);
	return obj;
}

SEC("perf_event")
int swap(void *ctx)
{
	count_run();
	exchange(0, take_obj());
	return 0;
}

/* No NMI, but under the lock all the same. */
SEC("fentry/kptr_defer_test_user_locked")
int swap_on_entry(void *ctx)
{
	exchange(0, take_obj());
	return 0;
}

SEC("syscall")
int fill(void *ctx)
{
	u32 key;

	bpf_for(key, 0, SLOTS)
		exchange(key, take_obj());
	return 0;
}

SEC("perf_event")
int empty(void *ctx)
{
	u32 key;

	count_run();
	bpf_for(key, 0, SLOTS)
		exchange(key, NULL);
	return 0;
}

SEC("fentry/kptr_defer_test_obj_free")
int on_free(void *ctx)
{
	count(freed);
	if (kptr_defer_test_in_hardirq())
		count(freed_in_hardirq);
	else if (in_kworker())
		count(freed_in_kworker);
	return 0;
}
