# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # for upstream/series and upstream/kernel

builds=(mm/bpf_memcontrol.o)
config=()

edit() {
	after mm/bpf_memcontrol.c '#include <linux/bpf.h>' <<<'#include <linux/bpf_last_ref.h>'
	replace mm/bpf_memcontrol.c '	css_put(&memcg->css);' '	bpf_put_css(&memcg->css);'
}
