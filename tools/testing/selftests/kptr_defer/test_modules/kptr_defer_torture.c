// SPDX-License-Identifier: GPL-2.0
/*
 * Torture of kptr_defer, in the manner of rcutorture. Drops are handed over in
 * bursts of any length from all contexts on all CPUs, NMIs in storms among them,
 * while CPUs go offline, memory runs out and others wait with
 * kptr_defer_barrier(). Loading it begins the test, unloading it ends it; the
 * kernel log then says
 *
 *   kptr_defer-torture:--- End of test: SUCCESS: ...
 *
 * or FAILURE. torture_type=busted is a queue that loses drops: that has to fail.
 */

#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/hw_breakpoint.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/perf_event.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <kptr_defer.h>

#include "kptr_defer_test_nmi.h"
#include "numbered_drops.h"

static char *torture_type = "kptr_defer";
module_param(torture_type, charp, 0400);
MODULE_PARM_DESC(torture_type, "kptr_defer, or busted: a queue that loses drops");

static uint nwriters;
module_param(nwriters, uint, 0400);
MODULE_PARM_DESC(nwriters, "threads that drop (0: as many as there are CPUs)");

static uint nbarriers = 1;
module_param(nbarriers, uint, 0400);
MODULE_PARM_DESC(nbarriers, "threads that wait with kptr_defer_barrier()");

static uint stat_interval = 15;
module_param(stat_interval, uint, 0400);
MODULE_PARM_DESC(stat_interval, "seconds between two lines of statistics (0: none)");

static uint onoff_interval = 500;
module_param(onoff_interval, uint, 0400);
MODULE_PARM_DESC(onoff_interval, "milliseconds between two CPUs that go offline (0: none does)");

static uint nmi_interval = 200;
module_param(nmi_interval, uint, 0400);
MODULE_PARM_DESC(nmi_interval, "microseconds between two NMIs to all CPUs (0: none are sent)");

static uint memory_interval = 1000;
module_param(memory_interval, uint, 0400);
MODULE_PARM_DESC(memory_interval, "milliseconds between two times that memory runs short (0: it does not)");

/* What is tortured. */
struct torture_ops {
	const char *name;
	void (*drop)(enum lane lane, struct kptr_defer_slot *slot);
	void (*wait)(void);
};

static const struct torture_ops *ops;

static void dropped(struct kptr_defer_slot *slot)
{
	drop_is_done(slot);
}

/* Some take their time. */
static void dropped_sleepable(struct kptr_defer_slot *slot)
{
	if (!get_random_u32_below(1000))
		usleep_range(10, 1000);
	drop_is_done(slot);
}

static void drop(enum lane lane, struct kptr_defer_slot *slot)
{
	if (lane == SLEEPABLE)
		kptr_defer_drop_sleepable(slot, dropped_sleepable);
	else
		kptr_defer_drop(slot, dropped);
}

static const struct torture_ops kptr_defer_ops = {
	.name = "kptr_defer",
	.drop = drop,
	.wait = kptr_defer_barrier,
};

static struct llist_head busted_list;

/* It may have become a ring, too. */
static void run_busted(struct irq_work *work)
{
	struct llist_node *node, *next;
	int at_most = 10000;

	llist_for_each_safe(node, next, llist_del_all(&busted_list)) {
		if (!at_most--)
			return;
		dropped(container_of(node, struct kptr_defer_slot, node));
	}
}

/* Of each CPU one: two run at the same time. */
static DEFINE_PER_CPU(struct irq_work, busted_works) = IRQ_WORK_INIT_HARD(run_busted);

/* An NMI between the two steps has added in vain. */
static void busted_drop(enum lane lane, struct kptr_defer_slot *slot)
{
	slot->node.next = READ_ONCE(busted_list.first);
	barrier();
	WRITE_ONCE(busted_list.first, &slot->node);
	irq_work_queue(this_cpu_ptr(&busted_works));
}

static void busted_barrier(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		irq_work_sync(per_cpu_ptr(&busted_works, cpu));
}

static const struct torture_ops busted_ops = {
	.name = "busted",
	.drop = busted_drop,
	.wait = busted_barrier,
};

static const struct torture_ops *const all_ops[] = { &kptr_defer_ops, &busted_ops };

static atomic_long_t nmis, barriers, barrier_failures, onoffs, onoff_failures, starved;

/* Not get_random_u32(), which is not for NMI. That a CPU interrupts itself does no harm. */
static DEFINE_PER_CPU(struct rnd_state, random);

/* Context: any that is not preemptible. */
static u32 random_below(u32 limit)
{
	return prandom_u32_state(this_cpu_ptr(&random)) % limit;
}

/* Context: any that is not preemptible. */
static void burst(u32 at_most)
{
	u32 drops = 1 + random_below(at_most);

	while (drops--)
		hand_over_with(random_below(8) ? ORDINARY : SLEEPABLE, ops->drop);
}

static void in_nmi_ipi(void)
{
	atomic_long_inc(&nmis);
	burst(32);
}

/* A breakpoint that is an NMI where the debug registers are: before the first instruction. */
static noinline void kptr_defer_torture_point(void)
{
	barrier();
}

#ifdef CONFIG_X86
static struct perf_event * __percpu *breakpoints;

static void on_breakpoint(struct perf_event *bp, struct perf_sample_data *data,
			  struct pt_regs *regs)
{
	atomic_long_inc(&nmis);
	burst(8);
}

static int set_breakpoints(void)
{
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_addr = (unsigned long)kptr_defer_torture_point;
	attr.bp_len = sizeof(long);
	attr.bp_type = HW_BREAKPOINT_X;
	breakpoints = register_wide_hw_breakpoint(&attr, on_breakpoint, NULL);
	return PTR_ERR_OR_ZERO((void __force *)breakpoints);
}

static void clear_breakpoints(void)
{
	unregister_wide_hw_breakpoint(breakpoints);
}
#else
static int set_breakpoints(void)
{
	return 0;
}

static void clear_breakpoints(void)
{
}
#endif

static void in_hardirq_context(struct irq_work *work)
{
	burst(16);
}

static DEFINE_PER_CPU(struct irq_work, hardirqs) = IRQ_WORK_INIT_HARD(in_hardirq_context);

static void in_softirq_context(struct timer_list *timer)
{
	preempt_disable();
	burst(16);
	preempt_enable();
}

static DEFINE_TIMER(softirq, in_softirq_context);

static int writer(void *unused)
{
	unsigned long flags;

	while (!kthread_should_stop()) {
		preempt_disable();
		switch (random_below(8)) {
		case 0:
			irq_work_queue(this_cpu_ptr(&hardirqs));
			break;
		case 1:
			mod_timer(&softirq, jiffies);
			break;
		case 2:
			local_irq_save(flags);
			burst(8);
			kptr_defer_torture_point();
			burst(8);
			local_irq_restore(flags);
			break;
		case 3:
			kptr_defer_torture_point();
			break;
		default:
			burst(16);
		}
		flags = random_below(16);
		preempt_enable();
		if (!flags)
			usleep_range(1, 1000);
		cond_resched();
	}
	return 0;
}

static int storm(void *unused)
{
	while (!kthread_should_stop()) {
		if (kptr_defer_test_nmi_send())
			atomic_long_inc(&starved);
		usleep_range(nmi_interval / 2 + 1, 2 * nmi_interval + 1);
	}
	return 0;
}

/* What has been handed over before is done after it. */
static int waiter(void *unused)
{
	unsigned int *handed = kcalloc(nr_producers(), sizeof(*handed), GFP_KERNEL);
	struct producer *producer;
	unsigned int i;

	while (handed && !kthread_should_stop()) {
		for (i = 0; i < nr_producers(); i++) {
			producer = producer_at(i);
			if (producer)
				handed[i] = READ_ONCE(producer->handed);
		}
		/* A drop may be numbered, and handed over only when its CPU goes on. */
		synchronize_rcu();
		ops->wait();
		for (i = 0; i < nr_producers(); i++) {
			producer = producer_at(i);
			if (producer && (int)(READ_ONCE(producer->dropped) - handed[i]) < 0)
				atomic_long_inc(&barrier_failures);
		}
		atomic_long_inc(&barriers);
		usleep_range(100, 10000);
	}
	kfree(handed);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ / 10);
	return 0;
}

static int onoff(void *unused)
{
	unsigned int cpu;

	while (!kthread_should_stop()) {
		msleep(onoff_interval);
		cpu = get_random_u32_below(nr_cpu_ids);
		if (!cpu || !cpu_online(cpu) || num_online_cpus() == 1)
			continue;
		if (remove_cpu(cpu)) {
			atomic_long_inc(&onoff_failures);
			continue;
		}
		msleep(onoff_interval / 4);
		if (add_cpu(cpu))
			atomic_long_inc(&onoff_failures);
		else
			atomic_long_inc(&onoffs);
	}
	return 0;
}

/* All but what others may want at once: nobody is to be killed for it. */
static bool is_plenty_free(void)
{
	struct sysinfo info;

	si_meminfo(&info);
	return info.freeram > info.totalram / 16;
}

static int eater(void *unused)
{
	struct page *page, *next;
	LIST_HEAD(pages);

	while (!kthread_should_stop()) {
		while (is_plenty_free()) {
			page = alloc_page(GFP_NOWAIT | __GFP_NOWARN | __GFP_NORETRY);
			if (!page)
				break;
			list_add(&page->lru, &pages);
			cond_resched();
		}
		msleep(20);
		list_for_each_entry_safe(page, next, &pages, lru) {
			list_del(&page->lru);
			__free_page(page);
			cond_resched();
		}
		msleep(memory_interval);
	}
	return 0;
}

static void print_parameters(const char *what)
{
	pr_alert("%s-torture:--- %s: nwriters=%u nbarriers=%u onoff_interval=%u nmi_interval=%u memory_interval=%u\n",
		 torture_type, what, nwriters, nbarriers, onoff_interval, nmi_interval,
		 memory_interval);
}

static void print_statistics(void)
{
	u64 handed, dropped;

	sum_up(&handed, &dropped);
	pr_alert("%s-torture: handed=%llu dropped=%llu lost=%d again=%d out_of_order=%d overlapped=%d\n",
		 torture_type, handed, dropped, atomic_read(&lost), atomic_read(&dropped_again),
		 atomic_read(&out_of_order), atomic_read(&overlapped));
	pr_alert("%s-torture: barriers=%ld barrier_failures=%ld nmis=%ld starved=%ld onoff=%ld onoff_failures=%ld\n",
		 torture_type, atomic_long_read(&barriers), atomic_long_read(&barrier_failures),
		 atomic_long_read(&nmis), atomic_long_read(&starved), atomic_long_read(&onoffs),
		 atomic_long_read(&onoff_failures));
}

static int stats(void *unused)
{
	unsigned long last = jiffies;

	while (!kthread_should_stop()) {
		schedule_timeout_interruptible(HZ / 10);
		if (time_after(jiffies, last + stat_interval * HZ)) {
			print_statistics();
			last = jiffies;
		}
	}
	return 0;
}

static struct task_struct *threads[64];
static unsigned int nthreads;

static int start(int (*function)(void *), const char *name)
{
	struct task_struct *thread;

	if (nthreads == ARRAY_SIZE(threads))
		return -E2BIG;
	thread = kthread_run(function, NULL, "torture_%s", name);
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	threads[nthreads++] = thread;
	return 0;
}

static void stop_all(void)
{
	unsigned int cpu;

	while (nthreads)
		kthread_stop(threads[--nthreads]);
	kptr_defer_test_nmi_call(NULL);
	clear_breakpoints();
	timer_shutdown_sync(&softirq);
	for_each_possible_cpu(cpu)
		irq_work_sync(per_cpu_ptr(&hardirqs, cpu));
	ops->wait();
	kptr_defer_barrier();
}

static int start_all(void)
{
	unsigned int i;
	int err = 0;

	for (i = 0; !err && i < nwriters; i++)
		err = start(writer, "writer");
	for (i = 0; !err && i < nbarriers; i++)
		err = start(waiter, "barrier");
	if (!err && nmi_interval)
		err = start(storm, "nmi");
	if (!err && onoff_interval && num_possible_cpus() > 1)
		err = start(onoff, "onoff");
	if (!err && memory_interval)
		err = start(eater, "memory");
	if (!err && stat_interval)
		err = start(stats, "stats");
	return err;
}

static int __init kptr_defer_torture_init(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < ARRAY_SIZE(all_ops); i++) {
		if (!strcmp(all_ops[i]->name, torture_type))
			ops = all_ops[i];
	}
	if (!ops) {
		pr_alert("%s-torture: there are kptr_defer and busted\n", torture_type);
		return -EINVAL;
	}
	if (!nwriters)
		nwriters = num_online_cpus();
	prandom_seed_full_state(&random);
	err = numbered_drops_init();
	if (err)
		return err;
	err = set_breakpoints();
	if (err)
		goto free;
	print_parameters("Start of test");
	err = kptr_defer_test_nmi_call(in_nmi_ipi);
	err = err ?: start_all();
	if (!err)
		return 0;
	stop_all();
free:
	numbered_drops_exit();
	return err;
}
module_init(kptr_defer_torture_init);

/* When no drop is under way any more. */
static void count_lost(void)
{
	struct producer *producer;
	unsigned int i, j;

	for (i = 0; i < nr_producers(); i++) {
		producer = producer_at(i);
		for (j = 0; producer && j < AT_ONCE; j++)
			atomic_add(producer->objects[j].handed, &lost);
	}
}

static void __exit kptr_defer_torture_exit(void)
{
	u64 handed, dropped;
	bool failed;

	stop_all();
	count_lost();
	print_statistics();
	sum_up(&handed, &dropped);
	failed = handed != dropped || !handed || atomic_read(&lost) ||
		 atomic_read(&dropped_again) || atomic_read(&out_of_order) ||
		 atomic_read(&overlapped) || atomic_long_read(&barrier_failures);
	if (failed)
		print_parameters("End of test: FAILURE");
	else if (atomic_long_read(&onoff_failures))
		print_parameters("End of test: HOTPLUG");
	else
		print_parameters("End of test: SUCCESS");
	numbered_drops_exit();
}
module_exit(kptr_defer_torture_exit);

MODULE_DESCRIPTION("Torture of kptr_defer");
MODULE_LICENSE("GPL");
