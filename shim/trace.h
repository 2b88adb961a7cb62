/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kptr_defer

#if !defined(_KPTR_DEFER_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _KPTR_DEFER_TRACE_H

#include <linux/tracepoint.h>

#include "../include/kptr_defer.h"

/*
 * A drop is about to go onto the queue, in the context that it was given back in:
 * NMI, mostly. One event for each that "deferred" counts.
 */
TRACE_EVENT(drop_deferred,
	TP_PROTO(const struct kptr_defer_slot *slot,
		 void (*dtor)(struct kptr_defer_slot *slot)),

	TP_ARGS(slot, dtor),

	TP_STRUCT__entry(
		__field(const void *, slot)
		__field(const void *, dtor)
	),

	TP_fast_assign(
		__entry->slot = slot;
		__entry->dtor = dtor;
	),

	TP_printk("slot=%p dtor=%ps", __entry->slot, __entry->dtor)
);

/*
 * Drops have been run from the queue, oldest first, by one of those that drain it:
 * the irq_work, the work item that it leaves the rest to (workqueue), the one for
 * drops that may sleep (sleepable). One event for each that "irq_work_runs" or
 * "workqueue_runs" counts; the irq_work may have left all to the workqueue.
 */
TRACE_EVENT(drain,
	TP_PROTO(const char *by, u64 drops, u64 duration_ns),

	TP_ARGS(by, drops, duration_ns),

	TP_STRUCT__entry(
		__string(by, by)
		__field(u64, drops)
		__field(u64, duration_ns)
	),

	TP_fast_assign(
		__assign_str(by);
		__entry->drops = drops;
		__entry->duration_ns = duration_ns;
	),

	TP_printk("by=%s drops=%llu duration_ns=%llu",
		  __get_str(by), __entry->drops, __entry->duration_ns)
);

#endif /* _KPTR_DEFER_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
