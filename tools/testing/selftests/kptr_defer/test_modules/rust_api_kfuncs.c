// SPDX-License-Identifier: GPL-2.0
/* The kfuncs of kptr_defer_test_rust.ko, for BTF, and what has no Rust binding. */

#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/module.h>
#include <linux/preempt.h>

#include "rust_api.h"

/* NMI, another interrupt, process context: the indices of Kind::dropped. */
int kptr_defer_test_context(void)
{
	return in_nmi() ? 0 : in_task() ? 2 : 1;
}

__bpf_kfunc_start_defs();

__bpf_kfunc int kptr_defer_test_rust_prepare(bool bare)
{
	return rust_api_prepare(bare);
}

__bpf_kfunc int kptr_defer_test_rust_drop(void)
{
	return rust_api_drop();
}

__bpf_kfunc int kptr_defer_test_rust_no_memory(void)
{
	return rust_api_no_memory();
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, kptr_defer_test_rust_prepare, KF_SLEEPABLE)
BTF_ID_FLAGS(func, kptr_defer_test_rust_drop)
BTF_ID_FLAGS(func, kptr_defer_test_rust_no_memory, KF_SLEEPABLE)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

int kptr_defer_test_rust_register(void)
{
	return register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING, &kfunc_set) ?:
	       register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &kfunc_set);
}
