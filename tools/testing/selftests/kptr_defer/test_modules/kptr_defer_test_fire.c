// SPDX-License-Identifier: GPL-2.0
/*
 * A user of kptr_defer's C API that drops objects in each NMI, up to a last volley
 * in its exit. The kernel log then says how many it has handed over, how many
 * were in flight when the fire ceased, and how many are missing after
 * kptr_defer_barrier(): of those that may sleep, and of the others.
 *
 * With no_barrier=1 the exit looks without waiting. As what is missing then would
 * run code that is gone, it waits after that.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/module.h>

#include <kptr_defer.h>

#include "kptr_defer_test_nmi.h"

static bool no_barrier;
module_param(no_barrier, bool, 0400);
MODULE_PARM_DESC(no_barrier, "leave out what a user's exit must do");

static bool may_sleep = true;
module_param(may_sleep, bool, 0400);
MODULE_PARM_DESC(may_sleep, "also drop objects whose destructor sleeps");

#define IN_EACH_NMI 4

/* Two of them: drops that may sleep, and others. */
struct lane {
	struct kptr_defer_slot slots[128];
	DECLARE_BITMAP(used, 128);
	atomic_t handed, dropped, dropped_again;
};

static struct lane sleepable, ordinary;

static void dropped(struct lane *lane, struct kptr_defer_slot *slot)
{
	atomic_inc(&lane->dropped);
	if (!test_and_clear_bit(slot - lane->slots, lane->used))
		atomic_inc(&lane->dropped_again);
}

/* Long enough that some are in flight when the module goes. */
static const unsigned int drop_us = 100;

static void drop_sleepable(struct kptr_defer_slot *slot)
{
	usleep_range(drop_us, 2 * drop_us);
	dropped(&sleepable, slot);
}

static void drop_ordinary(struct kptr_defer_slot *slot)
{
	udelay(drop_us);
	dropped(&ordinary, slot);
}

/* Any context. NULL when all are in flight. */
static struct kptr_defer_slot *next_slot(struct lane *lane)
{
	unsigned int i;

	for_each_clear_bit(i, lane->used, ARRAY_SIZE(lane->slots)) {
		if (!test_and_set_bit_lock(i, lane->used)) {
			atomic_inc(&lane->handed);
			return &lane->slots[i];
		}
	}
	return NULL;
}

static void fire(void)
{
	struct kptr_defer_slot *slot;
	int i;

	for (i = 0; i < IN_EACH_NMI; i++) {
		slot = may_sleep ? next_slot(&sleepable) : NULL;
		if (slot)
			kptr_defer_drop_sleepable(slot, drop_sleepable);
		slot = next_slot(&ordinary);
		if (slot)
			kptr_defer_drop(slot, drop_ordinary);
	}
}

static int in_flight(struct lane *lane)
{
	return atomic_read(&lane->handed) - atomic_read(&lane->dropped);
}

static int __init test_fire_init(void)
{
	return kptr_defer_test_nmi_call(fire);
}
module_init(test_fire_init);

static void __exit test_fire_exit(void)
{
	int sleepable_in_flight, ordinary_in_flight;

	kptr_defer_test_nmi_send();
	kptr_defer_test_nmi_call(NULL);
	sleepable_in_flight = in_flight(&sleepable);
	ordinary_in_flight = in_flight(&ordinary);
	if (!no_barrier)
		kptr_defer_barrier();
	pr_info("sleepable: handed=%d in_flight=%d missing=%d again=%d\n",
		atomic_read(&sleepable.handed), sleepable_in_flight, in_flight(&sleepable),
		atomic_read(&sleepable.dropped_again));
	pr_info("ordinary: handed=%d in_flight=%d missing=%d again=%d\n",
		atomic_read(&ordinary.handed), ordinary_in_flight, in_flight(&ordinary),
		atomic_read(&ordinary.dropped_again));
	if (no_barrier)
		kptr_defer_barrier();
}
module_exit(test_fire_exit);

MODULE_DESCRIPTION("Drops under way at unload, for the tests of kptr_defer");
MODULE_LICENSE("GPL");
