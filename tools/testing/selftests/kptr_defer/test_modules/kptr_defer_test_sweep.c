// SPDX-License-Identifier: GPL-2.0
/*
 * What an NMI lands in, and what drops in it, for the sweep of src/sweep.rs. What
 * goes wrong with the drops shows in <debugfs>/kptr_defer_test_sweep/.
 *
 * Two CPUs meet when one writes "<how>" to other and the other one writes to drop
 * with the parameter meet=1. The latter is stopped in the first NMI that the
 * sweep has it run into; then the former
 *
 *   drains  has the irq_work run that it had queued with a drop before
 *   drops   drops, and has the irq_work run that this queues
 *
 * and the one that was stopped goes on.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <kptr_defer.h>

#include "numbered_drops.h"

static bool meet;
module_param(meet, bool, 0600);
MODULE_PARM_DESC(meet, "the NMI stops its CPU for the other one, and drops nothing");

/* Also looked at by the sweep, for an NMI to land in the middle of a drop. */
static noinline void kptr_defer_test_sweep_dropped(struct kptr_defer_slot *slot)
{
	drop_is_done(slot);
}

static void drop(enum lane lane, struct kptr_defer_slot *slot)
{
	if (lane == SLEEPABLE)
		kptr_defer_drop_sleepable(slot, kptr_defer_test_sweep_dropped);
	else
		kptr_defer_drop(slot, kptr_defer_test_sweep_dropped);
}

/* Context: any that is not preemptible. */
static void hand_over(enum lane lane)
{
	hand_over_with(lane, drop);
}

/* How far a meeting has come. The one that drops and the other one take turns. */
enum meeting { NOBODY, WAITING, BEGUN, STOPPED, GOES_ON, OVER };

static atomic_t meeting = ATOMIC_INIT(NOBODY);
static unsigned int other_cpu;
static bool other_drains;
static atomic_t stopped, left_alone;

/* Emulated CPUs wait for each other, too. */
#define PATIENCE_NS (5 * NSEC_PER_SEC)

/* Any context. */
static bool comes_to(enum meeting state, enum meeting or)
{
	u64 start = ktime_get_mono_fast_ns();
	int now;

	while (now = atomic_read_acquire(&meeting), now != state && now != or) {
		if (ktime_get_mono_fast_ns() - start > PATIENCE_NS)
			return false;
		cpu_relax();
		if (preemptible())
			cond_resched();
	}
	return true;
}

static void stop_for_other(void)
{
	if (raw_smp_processor_id() == other_cpu ||
	    atomic_cmpxchg(&meeting, BEGUN, STOPPED) != BEGUN)
		return;
	atomic_inc(&stopped);
	if (!comes_to(GOES_ON, GOES_ON))
		atomic_inc(&left_alone);
}

static void nothing(struct irq_work *work)
{
}

/* With interrupts on: what this CPU has queued before has run then, too. */
static void run_irq_work(void)
{
	struct irq_work work = IRQ_WORK_INIT_HARD(nothing);

	irq_work_queue(&work);
	irq_work_sync(&work);
}

/* Returns when the other CPU has begun and is over, with or without a stop. */
static int be_the_other(void)
{
	unsigned long flags;
	bool comes;

	other_cpu = raw_smp_processor_id();
	if (other_drains) {
		local_irq_save(flags);
		hand_over(ORDINARY);
	}
	atomic_set_release(&meeting, BEGUN);
	comes = comes_to(STOPPED, OVER);
	if (other_drains)
		local_irq_restore(flags);
	if (atomic_read(&meeting) == STOPPED) {
		if (!other_drains) {
			preempt_disable();
			hand_over(ORDINARY);
			preempt_enable();
		}
		run_irq_work();
	}
	atomic_set_release(&meeting, GOES_ON);
	return comes ? 0 : -ETIMEDOUT;
}

/* Fails with EAGAIN if nobody has come to meet. */
static ssize_t other_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	char how[16] = {};
	int err;

	if (len >= sizeof(how) || copy_from_user(how, buf, len))
		return -EINVAL;
	other_drains = !strcmp(how, "drains");
	if (!other_drains && strcmp(how, "drops"))
		return -EINVAL;
	if (!comes_to(WAITING, WAITING))
		return -EAGAIN;
	err = be_the_other();
	return err ?: len;
}

static const struct file_operations other_fops = {
	.open = simple_open,
	.write = other_write,
};

/* What the NMIs land in. */
static noinline void kptr_defer_test_sweep_drops(bool with_sleepable)
{
	unsigned long flags;

	preempt_disable();
	hand_over(ORDINARY);
	if (with_sleepable)
		hand_over(SLEEPABLE);
	local_irq_save(flags);
	hand_over(ORDINARY);
	local_irq_restore(flags);
	preempt_enable();
}

/* Until all is done, or it does not look as if it ever were. */
static int settle(void)
{
	u64 end = ktime_get_mono_fast_ns() + 2 * PATIENCE_NS;
	u64 handed, dropped;

	while (sum_up(&handed, &dropped), handed != dropped) {
		if (ktime_get_mono_fast_ns() > end)
			return -ETIMEDOUT;
		usleep_range(20, 500);
	}
	return 0;
}

/* Fails with ETIMEDOUT if a drop does not come. */
static int drop_set(void *data, u64 rounds)
{
	int err = 0;

	while (rounds-- && !err) {
		if (meet) {
			atomic_set(&meeting, WAITING);
			if (!comes_to(BEGUN, BEGUN)) {
				atomic_set(&meeting, NOBODY);
				return -EAGAIN;
			}
		}
		kptr_defer_test_sweep_drops(!meet);
		if (meet) {
			/* What is left to a worker is interrupted there. */
			if (!other_drains)
				err = settle();
			atomic_cmpxchg(&meeting, BEGUN, OVER);
			comes_to(GOES_ON, GOES_ON);
		}
		err = settle();
	}
	atomic_set(&meeting, NOBODY);
	return err;
}
DEFINE_DEBUGFS_ATTRIBUTE(drop_fops, NULL, drop_set, "%llu\n");

/* Fails with EIO if what this CPU handed over before is not done after it. */
static int barrier_set(void *data, u64 rounds)
{
	struct producer *mine;
	unsigned int handed[LANES], lane;

	while (rounds--) {
		preempt_disable();
		mine = this_cpu_ptr(producers)->of[PROCESS];
		for (lane = 0; lane < LANES; lane++) {
			hand_over(lane);
			handed[lane] = mine[lane].handed;
		}
		preempt_enable();
		kptr_defer_barrier();
		for (lane = 0; lane < LANES; lane++) {
			if ((int)(READ_ONCE(mine[lane].dropped) - handed[lane]) < 0)
				return -EIO;
		}
	}
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(barrier_fops, NULL, barrier_set, "%llu\n");

static int handed_get(void *data, u64 *value)
{
	u64 dropped;

	sum_up(value, &dropped);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(handed_fops, handed_get, NULL, "%llu\n");

static int dropped_get(void *data, u64 *value)
{
	u64 handed;

	sum_up(&handed, value);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(dropped_fops, dropped_get, NULL, "%llu\n");

__bpf_kfunc_start_defs();

/* Called in each NMI of the sweep. Whether the program may drop something, too. */
__bpf_kfunc bool kptr_defer_test_sweep_nmi(void)
{
	if (meet) {
		stop_for_other();
		return false;
	}
	hand_over(ORDINARY);
	hand_over(SLEEPABLE);
	return true;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, kptr_defer_test_sweep_nmi)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

static struct dentry *dir;

static int __init test_sweep_init(void)
{
	int err;

	err = numbered_drops_init();
	if (err)
		return err;
	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING, &kfunc_set);
	if (err) {
		numbered_drops_exit();
		return err;
	}
	dir = debugfs_create_dir("kptr_defer_test_sweep", NULL);
	debugfs_create_file_unsafe("drop", 0200, dir, NULL, &drop_fops);
	debugfs_create_file_unsafe("barrier", 0200, dir, NULL, &barrier_fops);
	debugfs_create_file("other", 0200, dir, NULL, &other_fops);
	debugfs_create_file_unsafe("handed", 0400, dir, NULL, &handed_fops);
	debugfs_create_file_unsafe("dropped", 0400, dir, NULL, &dropped_fops);
	debugfs_create_atomic_t("dropped_again", 0400, dir, &dropped_again);
	debugfs_create_atomic_t("out_of_order", 0400, dir, &out_of_order);
	debugfs_create_atomic_t("overlapped", 0400, dir, &overlapped);
	debugfs_create_atomic_t("stopped", 0400, dir, &stopped);
	debugfs_create_atomic_t("left_alone", 0400, dir, &left_alone);
	return 0;
}
module_init(test_sweep_init);

static void __exit test_sweep_exit(void)
{
	debugfs_remove(dir);
	kptr_defer_barrier();
	numbered_drops_exit();
}
module_exit(test_sweep_exit);

MODULE_DESCRIPTION("What the sweep of kptr_defer's tests interrupts");
MODULE_LICENSE("GPL");
