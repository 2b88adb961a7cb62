/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KPTR_DEFER_TEST_IN_NMI_BPF_H
#define _KPTR_DEFER_TEST_IN_NMI_BPF_H

/* In the NMIs of a perf event, or in those of kptr_defer_test_nmi.ko. */
#define IN_NMI(name, call)			\
SEC("perf_event")				\
int perf_##name(void *ctx)			\
{						\
	return call;				\
}						\
						\
SEC("tp_btf/kptr_defer_test_nmi")		\
int ipi_##name(void *ctx)			\
{						\
	return call;				\
}

#endif
