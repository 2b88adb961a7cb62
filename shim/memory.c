// SPDX-License-Identifier: GPL-2.0
/*
 * The memory of handles. Unlike helpers.c this can be traced and patched: a test
 * has it fail.
 */

#include "shim.h"

void *kptr_defer_helper_kmalloc_nolock(size_t size)
{
	return kmalloc_nolock(size, 0, NUMA_NO_NODE);
}
