/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Drops that are numbered, for a test module: one that is lost, done twice, done
 * out of order or beside another one of its lane shows in what is counted here.
 */
#ifndef _KPTR_DEFER_TEST_NUMBERED_DROPS_H
#define _KPTR_DEFER_TEST_NUMBERED_DROPS_H

#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/preempt.h>

#include <kptr_defer.h>

static bool all_deferred;
module_param(all_deferred, bool, 0400);
MODULE_PARM_DESC(all_deferred, "no drop runs where it is given back (defer_when=always)");

enum lane { ORDINARY, SLEEPABLE, LANES };

/* An NMI may interrupt another one: a breakpoint. */
enum level { PROCESS, SOFTIRQ, HARDIRQ, NMI, NMI_IN_NMI, LEVELS };

/* Under way, of a producer. */
#define AT_ONCE 64

struct producer;

struct object {
	struct kptr_defer_slot slot;
	struct producer *producer;
	unsigned int number;
	bool handed;
};

/* One at a time hands over drops: a CPU in a context, not preempted. */
struct producer {
	enum level level;
	enum lane lane;
	unsigned int handed, dropped;
	struct object objects[AT_ONCE];
};

struct producers {
	struct producer of[LEVELS][LANES];
	int nmis;
};

static struct producers __percpu *producers;

/* Now in a destructor that has been deferred. */
static atomic_t draining[LANES];

static atomic_t lost, dropped_again, out_of_order, overlapped;

static unsigned int nr_producers(void)
{
	return nr_cpu_ids * LEVELS * LANES;
}

static struct producer *producer_at(unsigned int i)
{
	unsigned int cpu = i / (LEVELS * LANES);

	if (!cpu_possible(cpu))
		return NULL;
	return &per_cpu_ptr(producers, cpu)->of[i / LANES % LEVELS][i % LANES];
}

static int numbered_drops_init(void)
{
	struct producer *producer;
	unsigned int i;

	producers = alloc_percpu(struct producers);
	if (!producers)
		return -ENOMEM;
	for (i = 0; i < nr_producers(); i++) {
		producer = producer_at(i);
		if (!producer)
			continue;
		producer->level = i / LANES % LEVELS;
		producer->lane = i % LANES;
	}
	return 0;
}

/* After kptr_defer_barrier(). */
static void numbered_drops_exit(void)
{
	free_percpu(producers);
}

static void drop_is_done(struct kptr_defer_slot *slot)
{
	struct object *object = container_of(slot, struct object, slot);
	struct producer *producer = object->producer;
	bool deferred = all_deferred || producer->level >= NMI || producer->lane == SLEEPABLE;

	if (deferred && atomic_inc_return(&draining[producer->lane]) != 1)
		atomic_inc(&overlapped);
	if (!xchg(&object->handed, false))
		atomic_inc(&dropped_again);
	else if (object->number != producer->dropped)
		atomic_inc(&out_of_order);
	/* Some last until another CPU would come. */
	if (deferred && object->number % 256 == 0)
		udelay(9);
	if (deferred)
		atomic_dec(&draining[producer->lane]);
	/* From here on the object may be handed over again. */
	smp_store_release(&producer->dropped, producer->dropped + 1);
}

static enum level this_level(void)
{
	if (in_nmi())
		return this_cpu_read(producers->nmis) > 1 ? NMI_IN_NMI : NMI;
	if (in_hardirq())
		return HARDIRQ;
	return in_serving_softirq() ? SOFTIRQ : PROCESS;
}

/* The next one of this CPU in this context. NULL if all are under way. */
static struct object *next_object(enum lane lane)
{
	struct producer *producer = &this_cpu_ptr(producers)->of[this_level()][lane];
	struct object *object = &producer->objects[producer->handed % AT_ONCE];

	/* After its destructor has had it. */
	if (producer->handed - smp_load_acquire(&producer->dropped) >= AT_ONCE)
		return NULL;
	/* So many drops later, and not its own. */
	if (READ_ONCE(object->handed))
		atomic_inc(&lost);
	object->producer = producer;
	object->number = producer->handed;
	WRITE_ONCE(object->handed, true);
	WRITE_ONCE(producer->handed, producer->handed + 1);
	return object;
}

/*
 * Hands over the next drop with @drop, which gets its slot.
 *
 * Context: any that is not preemptible.
 */
static bool hand_over_with(enum lane lane,
			   void (*drop)(enum lane lane, struct kptr_defer_slot *slot))
{
	bool nmi = in_nmi();
	struct object *object;

	if (nmi)
		this_cpu_inc(producers->nmis);
	object = next_object(lane);
	if (object)
		drop(lane, &object->slot);
	if (nmi)
		this_cpu_dec(producers->nmis);
	return object;
}

static void sum_up(u64 *handed, u64 *dropped)
{
	struct producer *producer;
	unsigned int i;

	*handed = *dropped = 0;
	for (i = 0; i < nr_producers(); i++) {
		producer = producer_at(i);
		if (!producer)
			continue;
		/* After what was handed before it. */
		*dropped += smp_load_acquire(&producer->dropped);
		*handed += READ_ONCE(producer->handed);
	}
}

#endif
