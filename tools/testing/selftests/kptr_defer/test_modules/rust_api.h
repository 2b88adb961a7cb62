/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KPTR_DEFER_TEST_RUST_API_H
#define _KPTR_DEFER_TEST_RUST_API_H

#include <linux/types.h>

/* Of rust_api_kfuncs.c, for rust_api.rs. */
int kptr_defer_test_context(void);
int kptr_defer_test_rust_register(void);

/* Of rust_api.rs. */
int rust_api_prepare(bool bare);
int rust_api_drop(void);
int rust_api_no_memory(void);

#endif
