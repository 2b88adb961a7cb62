/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KPTR_DEFER_BENCH_H
#define _KPTR_DEFER_BENCH_H

#include <linux/types.h>

#include <kptr_defer.h>

/* What is given back: objects that are there, whatever the queue. */
struct kptr_defer_bench_object {
	struct kptr_defer_slot slot;
};

/* The same size and the same content as struct kptr_defer_task. */
struct kptr_defer_bench_task {
	struct task_struct *task;
	struct kptr_defer_slot slot;
};

/* Each waits for what has been dropped by it. */
void kptr_defer_bench_floor_exit(void);
void kptr_defer_bench_pool_exit(void);
void kptr_defer_bench_flood_exit(void);

int kptr_defer_bench_pool_init(void);
int kptr_defer_bench_flood_init(void);

#endif
