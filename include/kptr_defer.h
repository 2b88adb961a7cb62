/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kptr_defer: give back a reference from any context, NMI included.
 *
 * For a refcounted type of your own, embed a slot and hand it over when the
 * last reference goes:
 *
 *	struct thing {
 *		refcount_t refs;
 *		union {
 *			struct rcu_head rcu;
 *			struct kptr_defer_slot slot;
 *		};
 *	};
 *
 *	static void thing_free(struct kptr_defer_slot *slot)
 *	{
 *		kfree_rcu(container_of(slot, struct thing, slot), rcu);
 *	}
 *
 *	void thing_put(struct thing *thing)
 *	{
 *		if (refcount_dec_and_test(&thing->refs))
 *			kptr_defer_drop(&thing->slot, thing_free);
 *	}
 *
 * An object that is somebody else's may have memory that nothing uses before its
 * last reference is gone: the rcu_head that frees it, for one. There the slot can
 * be, and what is queued is the last reference itself, still held:
 *
 *	static void their_put_now(struct kptr_defer_slot *slot)
 *	{
 *		their_put(container_of((struct rcu_head *)slot, struct theirs, rcu));
 *	}
 *
 *	void their_put_any_context(struct theirs *theirs)
 *	{
 *		if (!refcount_dec_not_one(&theirs->refs))
 *			kptr_defer_drop((struct kptr_defer_slot *)&theirs->rcu, their_put_now);
 *	}
 *
 * defer/borrowed.rs says when that is sound; the guard does it for tasks and
 * cgroups.
 *
 * A destructor that may sleep goes to kptr_defer_drop_sleepable().
 *
 * A module that has ever called one of them calls kptr_defer_barrier() in
 * its exit function, after the last drop and before its code goes away.
 *
 * Built in, it can be called from late_initcall() on.
 */
#ifndef _KPTR_DEFER_H
#define _KPTR_DEFER_H

#include <linux/btf.h>
#include <linux/cfi.h>
#include <linux/container_of.h>
#include <linux/llist.h>
#include <linux/types.h>

/**
 * struct kptr_defer_slot - what a deferred drop needs, embedded in the object
 * @node: links the slot into the queue
 * @dtor: what drops the object that the slot is in
 *
 * Needs no initialisation. It belongs to its owner until it is handed to
 * kptr_defer_drop(), and again from the moment @dtor is called; in between the
 * owner must not touch it. It may share a union with whatever the object needs
 * only afterwards, its rcu_head for one.
 */
struct kptr_defer_slot {
	struct llist_node node;
	void (*dtor)(struct kptr_defer_slot *slot);
};

/**
 * kptr_defer_drop - run a destructor here, or as soon as it is safe
 * @slot: the slot in the object, not handed over already
 * @dtor: drops the object; must be fit for hard interrupt context, never NULL
 *
 * Outside NMI @dtor runs before this returns. In NMI it runs soon afterwards,
 * in hard interrupt context or in a kworker (on PREEMPT_RT always there), oldest
 * first. With the module parameter defer_when= more contexts than NMI defer.
 *
 * Context: any, NMI included. Never allocates, never fails.
 * Return: true if @dtor was deferred, false if it has run.
 */
bool kptr_defer_drop(struct kptr_defer_slot *slot,
		     void (*dtor)(struct kptr_defer_slot *slot));

/**
 * kptr_defer_drop_sleepable - run a destructor that may sleep, as soon as it can
 * @slot: the slot in the object, not handed over already
 * @dtor: drops the object; never NULL
 *
 * @dtor runs in a kworker, always: who gives back a reference may hold a lock, or read
 * under RCU.
 * Oldest first, one after another; what sleeps holds up others that may sleep,
 * but no drop of kptr_defer_drop().
 *
 * Context: any, NMI included. Never allocates, never fails.
 */
void kptr_defer_drop_sleepable(struct kptr_defer_slot *slot,
			       void (*dtor)(struct kptr_defer_slot *slot));

/**
 * kptr_defer_barrier - wait for the drops that are under way
 *
 * Returns when every drop deferred before the call has finished, as
 * rcu_barrier() does for call_rcu(). What a destructor hands on is not waited
 * for: what it gives to RCU, or other objects that it gives back and that are
 * deferred in turn. For those call it again.
 *
 * Drops that may sleep are waited for as well, whoever has given them back: the
 * end of an address space, for one. Never call it from a destructor.
 *
 * Context: process context, may sleep.
 */
void kptr_defer_barrier(void);

/**
 * KPTR_DEFER_DTOR - define a BPF kptr destructor that is safe in NMI
 * @name:   the function to define, ``void name(void *obj)``; unique in the kernel,
 *          because BPF looks it up by its bare name
 * @type:   the kptr's type
 * @member: the struct kptr_defer_slot in @type
 * @fn:     what drops the object, ``void fn(struct kptr_defer_slot *slot)``
 *
 * For register_btf_id_dtor_kfuncs(). A kptr that shares its object with other
 * references has a release function of its own; wrap that one in the same way
 * (see thing_put() above).
 */
#define KPTR_DEFER_DTOR(name, type, member, fn)				\
	__bpf_kfunc_start_defs();					\
	__bpf_kfunc void name(void *obj)				\
	{								\
		kptr_defer_drop(&((type *)obj)->member, fn);		\
	}								\
	CFI_NOSEAL(name);						\
	__bpf_kfunc_end_defs()

#endif /* _KPTR_DEFER_H */
