/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KPTR_DEFER_TEST_NMI_H
#define _KPTR_DEFER_TEST_NMI_H

/*
 * In each NMI of ours @function runs, too, until it is set to NULL: when that
 * returns it runs nowhere.
 */
int kptr_defer_test_nmi_call(void (*function)(void));

/* One to each CPU; they have arrived when this returns. */
int kptr_defer_test_nmi_send(void);

#endif /* _KPTR_DEFER_TEST_NMI_H */
