# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # for upstream/series and upstream/kernel

builds=(kernel/bpf/helpers.o kernel/bpf/last_ref.o kernel/bpf/last_ref_test.o)
config=(CONFIG_BPF_LAST_REF_KUNIT_TEST=y)

edit() {
	new include/linux/bpf_last_ref.h last_ref.h
	new kernel/bpf/last_ref.c last_ref.c
	new kernel/bpf/last_ref_test.c last_ref_test.c
	# shellcheck disable=SC2016 # for make
	after kernel/bpf/Makefile 'obj-$(CONFIG_BPF_SYSCALL) += bpf_local_storage.o bpf_task_storage.o' <<-'MAKE'
		obj-$(CONFIG_BPF_SYSCALL) += last_ref.o
		obj-$(CONFIG_BPF_LAST_REF_KUNIT_TEST) += last_ref_test.o
	MAKE
	before kernel/bpf/Kconfig 'config BPF_LSM' <"$patch/Kconfig"

	before kernel/bpf/helpers.c '#include <linux/bpf_mem_alloc.h>' <<<'#include <linux/bpf_last_ref.h>'
	replace kernel/bpf/helpers.c '	put_task_struct_rcu_user(p);' '	bpf_put_task(p);' 2
	replace kernel/bpf/helpers.c '	cgroup_put(cgrp);' '	bpf_put_cgroup(cgrp);' 2
}
