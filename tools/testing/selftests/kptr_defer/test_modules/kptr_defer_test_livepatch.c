// SPDX-License-Identifier: GPL-2.0
/*
 * A livepatch of bpf_task_release(): counts, and does the same by calling
 * bpf_task_release_dtor(), whose address is in the parameter.
 */

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>

static ulong dtor;
module_param(dtor, ulong, 0400);
MODULE_PARM_DESC(dtor, "the address of bpf_task_release_dtor()");

static atomic_t calls;
module_param_named(calls, calls.counter, int, 0400);
MODULE_PARM_DESC(calls, "how often the patched function was called");

static void patched_bpf_task_release(struct task_struct *p)
{
	void (*release)(void *p) = (void *)dtor;

	atomic_inc(&calls);
	release(p);
}

static struct klp_func funcs[] = {
	{
		.old_name = "bpf_task_release",
		.new_func = patched_bpf_task_release,
	},
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init test_livepatch_init(void)
{
	return dtor ? klp_enable_patch(&patch) : -EINVAL;
}
module_init(test_livepatch_init);

/* Without this it could not be unloaded. */
static void __exit test_livepatch_exit(void)
{
}
module_exit(test_livepatch_exit);

MODULE_DESCRIPTION("Livepatch for the tests of kptr_defer");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
