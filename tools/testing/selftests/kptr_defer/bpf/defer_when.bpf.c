// SPDX-License-Identifier: GPL-2.0
/* An object of kptr_defer_test_user.ko, given back in the context of choice. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct kptr_defer_test_obj {
	struct kptr_defer_slot slot;
} __attribute__((preserve_access_index));

extern struct kptr_defer_test_obj *kptr_defer_test_obj_acquire(void) __ksym;
extern void kptr_defer_test_obj_release(struct kptr_defer_test_obj *obj) __ksym;

static __always_inline int give_back_one(void)
{
	struct kptr_defer_test_obj *obj;

	count_run();
	obj = kptr_defer_test_obj_acquire();
	if (!obj)
		return 0;
	count(released);
	kptr_defer_test_obj_release(obj);
	return 0;
}

SEC("fentry/kptr_defer_test_point")
int give_back_on_point(void *ctx)
{
	return give_back_one();
}

SEC("fentry/kptr_defer_test_nmi_point")
int give_back_on_nmi_point(void *ctx)
{
	return give_back_one();
}
