// SPDX-License-Identifier: GPL-2.0
/* Nothing but counting, for each kind of source. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

IN_NMI(count, (count_run(), 0))
