/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kptr_defer_test

#if !defined(_KPTR_DEFER_TEST_NMI_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _KPTR_DEFER_TEST_NMI_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(kptr_defer_test_nmi,
	TP_PROTO(int cpu),
	TP_ARGS(cpu),
	TP_STRUCT__entry(
		__field(int, cpu)
	),
	TP_fast_assign(
		__entry->cpu = cpu;
	),
	TP_printk("cpu=%d", __entry->cpu)
);

#endif /* _KPTR_DEFER_TEST_NMI_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE kptr_defer_test_nmi_trace
#include <trace/define_trace.h>
