// SPDX-License-Identifier: GPL-2.0
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

/* The same in main.rs. */
#define ROUNDS 10000

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

/* Returns the nanoseconds that all rounds take, outside NMI. */
SEC("syscall")
int acquire_release(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_iter_num it;
	u64 start;

	bpf_iter_num_new(&it, 0, ROUNDS);
	start = bpf_ktime_get_ns();
	while (bpf_iter_num_next(&it)) {
		struct task_struct *held = bpf_task_acquire(task);

		if (held)
			bpf_task_release(held);
	}
	start = bpf_ktime_get_ns() - start;
	bpf_iter_num_destroy(&it);
	return start;
}
