// SPDX-License-Identifier: GPL-2.0
/*
 * Mistakes in a kernel with the patch series, put there while it runs: while this is
 * loaded, KUnit tests of the series have to fail. what= is one of
 *
 *	llist		the list forgets what was added last
 *	irq_work	the handler is never called
 *	task		the last reference to a task is put at once, as without the series
 *	css		so is that to a css
 */
#include <linux/cgroup-defs.h>
#include <linux/irq_work.h>
#include <linux/kprobes.h>
#include <linux/llist.h>
#include <linux/module.h>

static char *what = "";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "Which mistake");

static int forget_one(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct llist_node *first = (struct llist_node *)regs_return_value(regs);

	if (first)
		regs_set_return_value(regs, (unsigned long)first->next);
	return 0;
}

static struct kretprobe llist_del_all_returns = {
	.kp.symbol_name	= "rust_helper_llist_del_all",
	.handler	= forget_one,
};

static void do_nothing(struct irq_work *work)
{
}

static int nothing_to_call(struct kprobe *probe, struct pt_regs *regs)
{
	regs->si = (unsigned long)do_nothing;
	return 0;
}

static struct kprobe init_irq_work_is_called = {
	.symbol_name	= "rust_helper_init_irq_work_hard",
	.pre_handler	= nothing_to_call,
};

static struct kprobe put_task_struct_rcu_user_is_called = {
	.symbol_name	= "put_task_struct_rcu_user",
	.flags		= KPROBE_FLAG_DISABLED,
};

static int go_there_instead(struct kprobe *probe, struct pt_regs *regs)
{
	regs->ip = (unsigned long)put_task_struct_rcu_user_is_called.addr;
	return 1;
}

static struct kprobe bpf_put_task_is_called = {
	.symbol_name	= "bpf_put_task",
	.pre_handler	= go_there_instead,
};

static void put_css_at_once(struct cgroup_subsys_state *css)
{
	if (!(css->flags & CSS_NO_REF))
		percpu_ref_put(&css->refcnt);
}

static int put_at_once(struct kprobe *probe, struct pt_regs *regs)
{
	regs->ip = (unsigned long)put_css_at_once;
	return 1;
}

static struct kprobe bpf_put_css_is_called = {
	.symbol_name	= "bpf_put_css",
	.pre_handler	= put_at_once,
};

/* A probe that is not hit tells where the function is. */
static int plant_task(void)
{
	int err = register_kprobe(&put_task_struct_rcu_user_is_called);

	if (err)
		return err;
	err = register_kprobe(&bpf_put_task_is_called);
	if (err)
		unregister_kprobe(&put_task_struct_rcu_user_is_called);
	return err;
}

static int __init plant_init(void)
{
	if (!strcmp(what, "llist"))
		return register_kretprobe(&llist_del_all_returns);
	if (!strcmp(what, "irq_work"))
		return register_kprobe(&init_irq_work_is_called);
	if (!strcmp(what, "task"))
		return plant_task();
	if (!strcmp(what, "css"))
		return register_kprobe(&bpf_put_css_is_called);
	return -EINVAL;
}
module_init(plant_init);

static void __exit plant_exit(void)
{
	if (!strcmp(what, "llist")) {
		unregister_kretprobe(&llist_del_all_returns);
	} else if (!strcmp(what, "irq_work")) {
		unregister_kprobe(&init_irq_work_is_called);
	} else if (!strcmp(what, "css")) {
		unregister_kprobe(&bpf_put_css_is_called);
	} else {
		unregister_kprobe(&bpf_put_task_is_called);
		unregister_kprobe(&put_task_struct_rcu_user_is_called);
	}
}
module_exit(plant_exit);

MODULE_DESCRIPTION("Mistakes that KUnit tests have to find");
MODULE_LICENSE("GPL");
