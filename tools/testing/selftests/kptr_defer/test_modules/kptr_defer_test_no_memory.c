// SPDX-License-Identifier: GPL-2.0
/* A livepatch of kptr_defer: no memory for handles. */

#include <linux/livepatch.h>
#include <linux/module.h>

static atomic_t refused;
module_param_named(refused, refused.counter, int, 0400);
MODULE_PARM_DESC(refused, "how often memory was asked for in vain");

static void *no_memory(size_t size)
{
	atomic_inc(&refused);
	return NULL;
}

static struct klp_func funcs[] = {
	{
		.old_name = "kptr_defer_helper_kmalloc_nolock",
		.new_func = no_memory,
	},
	{ }
};

static struct klp_object objs[] = {
	{
		.name = IS_BUILTIN(CONFIG_KPTR_DEFER) ? NULL : "kptr_defer",
		.funcs = funcs,
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init test_no_memory_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(test_no_memory_init);

/* Without this it could not be unloaded. */
static void __exit test_no_memory_exit(void)
{
}
module_exit(test_no_memory_exit);

MODULE_DESCRIPTION("No memory, for the tests of kptr_defer");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
