/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KPTR_DEFER_BENCH_H
#define _KPTR_DEFER_BENCH_H

#include <linux/llist.h>
#include <linux/types.h>

#include <kptr_defer.h>

/* What is given back: objects that are there, whatever the queue. */
struct kptr_defer_bench_object {
	struct kptr_defer_slot slot;
};

/* The trivial destructor. */
void kptr_defer_bench_object_free(struct kptr_defer_slot *slot);

/* The same size and the same content as struct kptr_defer_task. */
struct kptr_defer_bench_task {
	struct task_struct *task;
	struct kptr_defer_slot slot;
};

/* Waits for what has been dropped. */
void kptr_defer_bench_floor_exit(void);

#endif
