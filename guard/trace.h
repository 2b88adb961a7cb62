/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kptr_defer

#if !defined(_KPTR_DEFER_GUARD_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _KPTR_DEFER_GUARD_TRACE_H

#include <linux/tracepoint.h>

/*
 * The guard has caught a last reference in NMI. The object is still held, and
 * goes onto the queue next.
 */
TRACE_EVENT(guard_last_ref,
	TP_PROTO(const char *function, const void *object, const char *would_have),

	TP_ARGS(function, object, would_have),

	TP_STRUCT__entry(
		__string(function, function)
		__field(const void *, object)
		__string(would_have, would_have)
	),

	TP_fast_assign(
		__assign_str(function);
		__entry->object = object;
		__assign_str(would_have);
	),

	TP_printk("function=%s object=%p would_have=%s",
		  __get_str(function), __entry->object, __get_str(would_have))
);

#endif /* _KPTR_DEFER_GUARD_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
