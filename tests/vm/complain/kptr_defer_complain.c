// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the kernel complain, and loads: what a VM run must not take for a success.
 */
#include <linux/bug.h>
#include <linux/module.h>

static int __init complain_init(void)
{
	WARN(1, "on purpose\n");
	return 0;
}
module_init(complain_init);

static void __exit complain_exit(void)
{
}
module_exit(complain_exit);

MODULE_DESCRIPTION("Makes the kernel complain");
MODULE_LICENSE("GPL");
