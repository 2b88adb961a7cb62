// SPDX-License-Identifier: GPL-2.0
/* Nothing but counting, for each kind of source. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

SEC("perf_event")
int perf_count(void *ctx)
{
	count_run();
	return 0;
}

SEC("tp_btf/nmi_handler")
int BPF_PROG(ipi_count, void *handler, s64 delta, int handled)
{
	if (handled)
		count_run();
	return 0;
}
