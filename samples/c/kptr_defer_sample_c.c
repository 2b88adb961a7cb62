// SPDX-License-Identifier: GPL-2.0
/*
 * A kptr type of one's own that BPF programs may give back in any context, NMI
 * included. What frees a note does not have to know: it takes a lock and calls
 * call_rcu(), of which neither is allowed in NMI.
 *
 *	make && make -C samples/c
 *	insmod kptr_defer.ko
 *	insmod build/$(uname -r)/sample_c/kptr_defer_sample_c.ko
 */

#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include <kptr_defer.h>

struct kptr_sample_note {
	refcount_t refs;
	struct list_head list;
	union {
		struct kptr_defer_slot slot;	/* from the last reference on */
		struct rcu_head rcu;		/* then needed for this */
	};
};

static LIST_HEAD(notes);
static DEFINE_SPINLOCK(notes_lock);

static atomic_t made, freed;
module_param_named(made, made.counter, int, 0400);
module_param_named(freed, freed.counter, int, 0400);

static void note_free_rcu(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct kptr_sample_note, rcu));
	atomic_inc(&freed);
}

/* Never in NMI: kptr_defer sees to it. Interrupts may be off, or not. */
static void note_free(struct kptr_defer_slot *slot)
{
	struct kptr_sample_note *note = container_of(slot, struct kptr_sample_note, slot);
	unsigned long flags;

	spin_lock_irqsave(&notes_lock, flags);
	list_del_rcu(&note->list);
	spin_unlock_irqrestore(&notes_lock, flags);
	call_rcu(&note->rcu, note_free_rcu);
}

__bpf_kfunc_start_defs();

__bpf_kfunc struct kptr_sample_note *bpf_kptr_sample_note_make(void)
{
	struct kptr_sample_note *note = kzalloc_obj(*note);

	if (!note)
		return NULL;
	refcount_set(&note->refs, 1);
	spin_lock_irq(&notes_lock);
	list_add_rcu(&note->list, &notes);
	spin_unlock_irq(&notes_lock);
	atomic_inc(&made);
	return note;
}

/* One more reference. */
__bpf_kfunc struct kptr_sample_note *bpf_kptr_sample_note_get(struct kptr_sample_note *note)
{
	refcount_inc(&note->refs);
	return note;
}

__bpf_kfunc void bpf_kptr_sample_note_put(struct kptr_sample_note *note)
{
	if (refcount_dec_and_test(&note->refs))
		kptr_defer_drop(&note->slot, note_free);
}

/*
 * For maps that go away with notes in them. With one reference to each note at most,
 * KPTR_DEFER_DTOR(bpf_kptr_sample_note_put_dtor, struct kptr_sample_note, slot, note_free)
 * would do: that drops the object, not a reference.
 */
__bpf_kfunc void bpf_kptr_sample_note_put_dtor(void *note)
{
	bpf_kptr_sample_note_put(note);
}

CFI_NOSEAL(bpf_kptr_sample_note_put_dtor);

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, bpf_kptr_sample_note_make, KF_ACQUIRE | KF_RET_NULL | KF_SLEEPABLE)
BTF_ID_FLAGS(func, bpf_kptr_sample_note_get, KF_ACQUIRE)
BTF_ID_FLAGS(func, bpf_kptr_sample_note_put, KF_RELEASE)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

BTF_ID_LIST(dtor_ids)
BTF_ID(struct, kptr_sample_note)
BTF_ID(func, bpf_kptr_sample_note_put_dtor)

static int __init sample_init(void)
{
	const struct btf_id_dtor_kfunc dtor = {
		.btf_id = dtor_ids[0],
		.kfunc_btf_id = dtor_ids[1],
	};

	return register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING, &kfunc_set) ?:
	       register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &kfunc_set) ?:
	       register_btf_id_dtor_kfuncs(&dtor, 1, THIS_MODULE);
}
module_init(sample_init);

static void __exit sample_exit(void)
{
	kptr_defer_barrier();	/* note_free() runs no more */
	rcu_barrier();		/* nor what it has handed to RCU */
	WARN_ON(atomic_read(&made) != atomic_read(&freed));
}
module_exit(sample_exit);

MODULE_DESCRIPTION("A kptr type of one's own, with kptr_defer");
MODULE_LICENSE("GPL");
