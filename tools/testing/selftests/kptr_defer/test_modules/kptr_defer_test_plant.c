// SPDX-License-Identifier: GPL-2.0
/*
 * Mistakes of a user of kptr_defer, for a debug kernel to report. On load an object
 * is given back in NMI in the way that what= names; with planted=1 there is the
 * mistake in it.
 */

#include <linux/kernel.h>
#include <linux/llist.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include <kptr_defer.h>

#include "kptr_defer_test_nmi.h"

static char *what = "";
module_param(what, charp, 0400);
MODULE_PARM_DESC(what, "which mistake");

static bool planted;
module_param(planted, bool, 0400);
MODULE_PARM_DESC(planted, "make it");

/* Only BPF programs can call these by name. */
static ulong acquire;
module_param(acquire, ulong, 0400);
MODULE_PARM_DESC(acquire, "the address of bpf_kptr_defer_task_acquire()");

static ulong release;
module_param(release, ulong, 0400);
MODULE_PARM_DESC(release, "the address of bpf_kptr_defer_task_release()");

struct object {
	char mark[8];			/* that kmemleak shows */
	struct kptr_defer_slot slot;
	struct rcu_head rcu;
};

static noinline struct object *new_object(void)
{
	struct object *object = kzalloc_obj(struct object);

	if (object)
		strscpy(object->mark, "planted");
	return object;
}

static struct object *to_object(struct kptr_defer_slot *slot)
{
	return container_of(slot, struct object, slot);
}

static void free_object(struct kptr_defer_slot *slot)
{
	kfree(to_object(slot));
}

static void free_and_use(struct kptr_defer_slot *slot)
{
	struct object *object = to_object(slot);

	kfree(object);
	if (planted)
		READ_ONCE(object->rcu.func);
}

static void use_after_free(struct kptr_defer_slot *slot)
{
	kptr_defer_drop(slot, free_and_use);
}

static void do_nothing(struct kptr_defer_slot *slot)
{
}

/* It was freed before: see prepare(). */
static void drop_after_free(struct kptr_defer_slot *slot)
{
	kptr_defer_drop(slot, planted ? do_nothing : free_object);
}

/*
 * In a way in which kmemleak does not find them. Several, because it takes for a
 * reference what a stack still has of the last one.
 */
static unsigned long leaked[16];
static unsigned int nr_leaked;

static void forget(struct kptr_defer_slot *slot)
{
	leaked[nr_leaked++] = ~(unsigned long)to_object(slot);
}

static void leak(struct kptr_defer_slot *slot)
{
	kptr_defer_drop(slot, planted ? forget : free_object);
}

static DEFINE_RAW_SPINLOCK(lock);
static LLIST_HEAD(dropped);

static void drop_under_lock(struct kptr_defer_slot *slot)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	__llist_add(&slot->node, &dropped);
	raw_spin_unlock_irqrestore(&lock, flags);
}

static void lock_in_nmi(struct kptr_defer_slot *slot)
{
	if (planted)
		drop_under_lock(slot);
	else
		kptr_defer_drop(slot, drop_under_lock);
}

static void free_rcu(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct object, rcu));
}

static void free_by_rcu(struct kptr_defer_slot *slot)
{
	call_rcu(&to_object(slot)->rcu, free_rcu);
}

static void call_rcu_in_nmi(struct kptr_defer_slot *slot)
{
	if (planted)
		free_by_rcu(slot);
	else
		kptr_defer_drop(slot, free_by_rcu);
}

static void free_by_rcu_twice(struct kptr_defer_slot *slot)
{
	free_by_rcu(slot);
	if (planted)
		free_by_rcu(slot);
}

static void rcu_head_twice(struct kptr_defer_slot *slot)
{
	kptr_defer_drop(slot, free_by_rcu_twice);
}

static void sleep_and_free(struct kptr_defer_slot *slot)
{
	/* How each function begins that sleeps. */
	might_sleep();
	free_object(slot);
}

static void sleep_in_drop(struct kptr_defer_slot *slot)
{
	if (planted)
		kptr_defer_drop(slot, sleep_and_free);
	else
		kptr_defer_drop_sleepable(slot, sleep_and_free);
}

static void free_of_wrong_type(struct object *object)
{
	kfree(object);
}

/* The engine, in Rust, calls it. */
static void wrong_prototype(struct kptr_defer_slot *slot)
{
	void (*dtor)(struct kptr_defer_slot *slot) = free_object;

	if (planted)
		dtor = (void *)free_of_wrong_type;
	kptr_defer_drop(slot, dtor);
}

/*
 * No program and no map pins kptr_defer for this one. CFI does not expect calls of kfuncs by
 * their addresses.
 */
static __nocfi void leaked_handle(struct kptr_defer_slot *slot)
{
	struct kptr_defer_task *(*acquire_task)(struct task_struct *task) = (void *)acquire;
	void (*release_task)(struct kptr_defer_task *handle) = (void *)release;
	struct kptr_defer_task *handle = acquire_task(current);

	if (handle && !planted)
		release_task(handle);
	llist_add(&slot->node, &dropped);
}

static const struct {
	const char *what;
	void (*give_back)(struct kptr_defer_slot *slot);
} mistakes[] = {
	{ "use_after_free", use_after_free },
	{ "drop_after_free", drop_after_free },
	{ "leak", leak },
	{ "lock_in_nmi", lock_in_nmi },
	{ "call_rcu_in_nmi", call_rcu_in_nmi },
	{ "rcu_head_twice", rcu_head_twice },
	{ "sleep_in_drop", sleep_in_drop },
	{ "wrong_prototype", wrong_prototype },
	{ "leaked_handle", leaked_handle },
};

static void (*give_back)(struct kptr_defer_slot *slot);
static struct object *held;

static void give_back_once(void)
{
	struct object *object = xchg(&held, NULL);

	if (object)
		give_back(&object->slot);
}

static int make_mistake(void)
{
	int err;

	held = new_object();
	if (!held)
		return -ENOMEM;
	if (give_back == lock_in_nmi) {
		raw_spin_lock_irq(&lock);
		raw_spin_unlock_irq(&lock);
	}
	if (give_back == drop_after_free && planted)
		kfree(held);
	err = kptr_defer_test_nmi_call(give_back_once);
	kptr_defer_test_nmi_call(NULL);
	return err;
}

/* SLUB's arrays of free objects still have the allocated ones, too, until others come there. */
static int use_free_objects(void)
{
	static struct object *others[512];
	int i, err = 0;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		others[i] = new_object();
		if (!others[i])
			err = -ENOMEM;
	}
	for (i = 0; i < ARRAY_SIZE(others); i++)
		kfree(others[i]);
	memset(others, 0, sizeof(others));
	return err;
}

static int __init test_plant_init(void)
{
	int i, times, err = 0;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++) {
		if (!strcmp(what, mistakes[i].what))
			give_back = mistakes[i].give_back;
	}
	if (!give_back || (give_back == leaked_handle && (!acquire || !release)))
		return -EINVAL;
	times = give_back == leak ? ARRAY_SIZE(leaked) : 1;
	while (times-- && !err)
		err = make_mistake();
	return err ?: use_free_objects();
}
module_init(test_plant_init);

static void __exit test_plant_exit(void)
{
	struct llist_node *node, *next;

	kptr_defer_barrier();
	rcu_barrier();
	llist_for_each_safe(node, next, __llist_del_all(&dropped))
		free_object(container_of(node, struct kptr_defer_slot, node));
	while (nr_leaked)
		kfree((void *)~leaked[--nr_leaked]);
}
module_exit(test_plant_exit);

MODULE_DESCRIPTION("Mistakes that a debug kernel reports, for the tests of kptr_defer");
MODULE_LICENSE("GPL");
