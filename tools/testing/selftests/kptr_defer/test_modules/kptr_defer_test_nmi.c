// SPDX-License-Identifier: GPL-2.0
/*
 * A source of NMIs: write "<rounds>" to <debugfs>/kptr_defer_test_nmi/send, and
 * that many times every CPU gets one, or to send_here, and the CPU does that one is
 * on. On x86 they are IPIs, elsewhere they come from counters of the PMU. Programs
 * on the tracepoint kptr_defer_test_nmi, and whatever attaches to
 * kptr_defer_test_nmi_point(), run in each.
 *
 * Writing "<rounds>" to process, irqsoff or hardirq calls kptr_defer_test_point()
 * as often in that context.
 */

#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/cgroup.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/sched.h>

#ifdef CONFIG_X86_LOCAL_APIC
#include <asm/apic.h>
#include <asm/nmi.h>
#endif

#include "kptr_defer_test_nmi.h"

#define CREATE_TRACE_POINTS
#include "kptr_defer_test_nmi_trace.h"

__bpf_kfunc_start_defs();

/* The layout of preempt_count() differs: a program asks the kernel instead. */
__bpf_kfunc bool kptr_defer_test_in_nmi(void)
{
	return in_nmi();
}

__bpf_kfunc bool kptr_defer_test_in_hardirq(void)
{
	return in_hardirq();
}

/*
 * Since 7.2 the kernel calls no destructor in NMI, when a map element is deleted
 * there for example. These do.
 */
__bpf_kfunc void kptr_defer_test_task_dtor(struct task_struct *task, u64 dtor)
{
	((void (*)(void *))dtor)(task);
}

__bpf_kfunc void kptr_defer_test_cgroup_dtor(struct cgroup *cgrp, u64 dtor)
{
	((void (*)(void *))dtor)(cgrp);
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, kptr_defer_test_in_nmi)
BTF_ID_FLAGS(func, kptr_defer_test_in_hardirq)
BTF_ID_FLAGS(func, kptr_defer_test_task_dtor, KF_RELEASE)
BTF_ID_FLAGS(func, kptr_defer_test_cgroup_dtor, KF_RELEASE)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

static void (*called_in_nmi)(void);

static noinline void kptr_defer_test_nmi_point(void)
{
	barrier();
}

static void in_our_nmi(void)
{
	void (*function)(void);

	trace_kptr_defer_test_nmi(raw_smp_processor_id());
	kptr_defer_test_nmi_point();
	function = READ_ONCE(called_in_nmi);
	if (function)
		function();
}

static const int patience_us = 20 * USEC_PER_SEC;

#ifdef CONFIG_X86_LOCAL_APIC

#define HANDLER_NAME "kptr_defer_test_nmi"

/* The CPUs that an NMI of ours is on its way to. */
static struct cpumask awaited;

/* While it storms all NMIs are taken for ours: they are more than are awaited. */
static bool storming;

static int handle_nmi(unsigned int type, struct pt_regs *regs)
{
	if (!cpumask_test_and_clear_cpu(raw_smp_processor_id(), &awaited) &&
	    !READ_ONCE(storming))
		return NMI_DONE;
	/* It would be too late to queue an irq_work. */
	WARN_ON_ONCE(cpu_is_offline(raw_smp_processor_id()));
	in_our_nmi();
	return NMI_HANDLED;
}

static int send_to_all(void)
{
	int patience = patience_us;

	cpus_read_lock();
	cpumask_copy(&awaited, cpu_online_mask);
	__apic_send_IPI_mask(cpu_online_mask, NMI_VECTOR);
	while (!cpumask_empty(&awaited) && patience--)
		udelay(1);
	cpus_read_unlock();
	return patience < 0 ? -ETIMEDOUT : 0;
}

/* Hardware breakpoints are there for that. */
static int send_here(void)
{
	return -EOPNOTSUPP;
}

/*
 * And for a while after that: the kernel should ignore those, see exc_nmi(). The last
 * ones may arrive or not.
 */
static bool storm_until_offline(unsigned int cpu, unsigned long end)
{
	bool offline = false, was_offline;

	WRITE_ONCE(storming, true);
	while (time_before(jiffies, end)) {
		was_offline = offline;
		offline = was_offline || !cpu_online(cpu);
		if (offline && !was_offline)
			end = jiffies + msecs_to_jiffies(50);
		/* It came back. */
		if (was_offline && cpu_online(cpu))
			break;
		__apic_send_IPI_mask(cpumask_of(cpu), NMI_VECTOR);
		usleep_range(20, 50);
	}
	msleep(20);
	WRITE_ONCE(storming, false);
	return offline;
}

static int start_source(void)
{
	return register_nmi_handler(NMI_LOCAL, handle_nmi, 0, HANDLER_NAME);
}

static void stop_source(void)
{
	unregister_nmi_handler(NMI_LOCAL, HANDLER_NAME);
}

#else

/* Interrupts one CPU again and again: the first time is for us. */
struct counter {
	struct perf_event *event;
	bool storms;
	bool has_fired;
	bool fires_outside_nmi;
};

static void on_overflow(struct perf_event *event, struct perf_sample_data *data,
			struct pt_regs *regs)
{
	struct counter *counter = event->overflow_handler_context;

	if (!in_nmi())
		counter->fires_outside_nmi = true;
	else if (!counter->has_fired || counter->storms)
		in_our_nmi();
	WRITE_ONCE(counter->has_fired, true);
}

static int start(struct counter *counter, unsigned int cpu, bool storms)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr),
		.sample_period = 50000,
		.pinned = true,
	};

	*counter = (struct counter){ .storms = storms };
	counter->event = perf_event_create_kernel_counter(&attr, cpu, NULL, on_overflow, counter);
	if (!IS_ERR(counter->event))
		return 0;
	return PTR_ERR(counter->event) == -ENOENT ? -EOPNOTSUPP : PTR_ERR(counter->event);
}

static int stop_after_first(struct counter *counter)
{
	int patience = patience_us;

	while (!READ_ONCE(counter->has_fired) && patience--)
		udelay(1);
	/* Waits for its handler. */
	perf_event_release_kernel(counter->event);
	if (counter->fires_outside_nmi)
		return -EOPNOTSUPP;
	return patience < 0 ? -ETIMEDOUT : 0;
}

static DEFINE_PER_CPU(struct counter, counters);

static int send_to_all(void)
{
	static struct cpumask started;
	unsigned int cpu;
	int err = 0;

	cpumask_clear(&started);
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		err = start(per_cpu_ptr(&counters, cpu), cpu, false);
		if (err)
			break;
		cpumask_set_cpu(cpu, &started);
	}
	for_each_cpu(cpu, &started)
		err = stop_after_first(per_cpu_ptr(&counters, cpu)) ?: err;
	cpus_read_unlock();
	return err;
}

static int send_here(void)
{
	struct counter counter;
	int err;

	migrate_disable();
	err = start(&counter, raw_smp_processor_id(), false) ?: stop_after_first(&counter);
	migrate_enable();
	return err;
}

/* Until perf takes its counters away from a CPU that goes offline. */
static bool storm_until_offline(unsigned int cpu, unsigned long end)
{
	struct counter counter;
	bool offline;

	if (start(&counter, cpu, true))
		return false;
	do {
		msleep(20);
		offline = !cpu_online(cpu);
	} while (!offline && time_before(jiffies, end));
	perf_event_release_kernel(counter.event);
	return offline;
}

static int start_source(void)
{
	return 0;
}

static void stop_source(void)
{
}

#endif

int kptr_defer_test_nmi_send(void)
{
	static DEFINE_MUTEX(one_sender);

	guard(mutex)(&one_sender);
	return send_to_all();
}
EXPORT_SYMBOL_GPL(kptr_defer_test_nmi_send);

int kptr_defer_test_nmi_call(void (*function)(void))
{
	WRITE_ONCE(called_in_nmi, function);
	/* A CPU that gets this one has left those before. */
	return kptr_defer_test_nmi_send();
}
EXPORT_SYMBOL_GPL(kptr_defer_test_nmi_call);

static int send_set(void *data, u64 rounds)
{
	int err = 0;

	while (rounds-- && !err) {
		err = kptr_defer_test_nmi_send();
		cond_resched();
	}
	return err;
}
DEFINE_DEBUGFS_ATTRIBUTE(send_fops, NULL, send_set, "%llu\n");

static int send_here_set(void *data, u64 rounds)
{
	int err = 0;

	while (rounds-- && !err)
		err = send_here();
	return err;
}
DEFINE_DEBUGFS_ATTRIBUTE(send_here_fops, NULL, send_here_set, "%llu\n");

static noinline void kptr_defer_test_point(void)
{
	barrier();
}

static int process_set(void *data, u64 rounds)
{
	while (rounds--)
		kptr_defer_test_point();
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(process_fops, NULL, process_set, "%llu\n");

static int irqsoff_set(void *data, u64 rounds)
{
	while (rounds--) {
		local_irq_disable();
		kptr_defer_test_point();
		local_irq_enable();
	}
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(irqsoff_fops, NULL, irqsoff_set, "%llu\n");

static void in_hardirq_context(struct irq_work *work)
{
	kptr_defer_test_point();
}

static int hardirq_set(void *data, u64 rounds)
{
	struct irq_work work = IRQ_WORK_INIT_HARD(in_hardirq_context);

	while (rounds--) {
		irq_work_queue(&work);
		irq_work_sync(&work);
	}
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(hardirq_fops, NULL, hardirq_set, "%llu\n");

/* To one CPU until it is offline. */
static int storm_set(void *data, u64 cpu)
{
	if (cpu >= nr_cpu_ids)
		return -EINVAL;
	return storm_until_offline(cpu, jiffies + 60 * HZ) ? 0 : -ETIMEDOUT;
}
DEFINE_DEBUGFS_ATTRIBUTE(storm_fops, NULL, storm_set, "%llu\n");

static struct dentry *dir;

static int __init test_nmi_init(void)
{
	int err;

	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING, &kfunc_set);
	err = err ?: register_btf_kfunc_id_set(BPF_PROG_TYPE_KPROBE, &kfunc_set);
	err = err ?: register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &kfunc_set);
	err = err ?: start_source();
	if (err)
		return err;
	dir = debugfs_create_dir("kptr_defer_test_nmi", NULL);
	debugfs_create_file_unsafe("send", 0200, dir, NULL, &send_fops);
	debugfs_create_file_unsafe("send_here", 0200, dir, NULL, &send_here_fops);
	debugfs_create_file_unsafe("storm", 0200, dir, NULL, &storm_fops);
	debugfs_create_file_unsafe("process", 0200, dir, NULL, &process_fops);
	debugfs_create_file_unsafe("irqsoff", 0200, dir, NULL, &irqsoff_fops);
	debugfs_create_file_unsafe("hardirq", 0200, dir, NULL, &hardirq_fops);
	return 0;
}
module_init(test_nmi_init);

static void __exit test_nmi_exit(void)
{
	debugfs_remove(dir);
	stop_source();
}
module_exit(test_nmi_exit);

MODULE_DESCRIPTION("NMI source for the tests of kptr_defer");
MODULE_LICENSE("GPL");
