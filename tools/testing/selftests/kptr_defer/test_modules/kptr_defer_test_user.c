// SPDX-License-Identifier: GPL-2.0
/*
 * A user of kptr_defer's C API: a kptr type of its own whose destructor takes a
 * lock. Writing "<rounds>" to <debugfs>/kptr_defer_test_user/lock takes that
 * lock as often, calls kptr_defer_test_user_locked() under it and holds it for a
 * while, for an NMI to land in. Giving back an object there deadlocks, unless the drop is deferred.
 * With inline_drop=1 it is not; the destructor only tries the lock, and counts.
 */

#include <linux/bitmap.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include <kptr_defer.h>

static bool inline_drop;
module_param(inline_drop, bool, 0644);
MODULE_PARM_DESC(inline_drop, "run the destructor in NMI: what kptr_defer is there to avoid");

static uint drop_ms;
module_param(drop_ms, uint, 0644);
MODULE_PARM_DESC(drop_ms, "how long the destructor takes");

struct kptr_defer_test_obj {
	struct kptr_defer_slot slot;
};

/* Objects from a bitmap: there to be had in any context, NMI on RT included. */
static struct kptr_defer_test_obj pool[256];
static DECLARE_BITMAP(pool_used, ARRAY_SIZE(pool));

/* Raw, so that trying it in NMI is legal on RT too. */
static DEFINE_RAW_SPINLOCK(lock);
static DEFINE_PER_CPU(bool, holds_lock);

static atomic_t acquired, deferred, dropped, dropped_in_nmi, deadlocks;

static void kptr_defer_test_obj_free(struct kptr_defer_slot *slot)
{
	struct kptr_defer_test_obj *obj = container_of(slot, struct kptr_defer_test_obj, slot);
	unsigned long flags;

	if (in_nmi())
		atomic_inc(&dropped_in_nmi);
	local_irq_save(flags);
	while (!raw_spin_trylock(&lock)) {
		if (this_cpu_read(holds_lock)) {
			/* Who holds it is what we interrupted: it cannot go on. */
			atomic_inc(&deadlocks);
			goto not_locked;
		}
		cpu_relax();
	}
	raw_spin_unlock(&lock);
not_locked:
	local_irq_restore(flags);
	mdelay(drop_ms);
	atomic_inc(&dropped);
	clear_bit_unlock(obj - pool, pool_used);
}

__bpf_kfunc_start_defs();

__bpf_kfunc struct kptr_defer_test_obj *kptr_defer_test_obj_acquire(void)
{
	unsigned int i;

	for_each_clear_bit(i, pool_used, ARRAY_SIZE(pool)) {
		if (!test_and_set_bit_lock(i, pool_used)) {
			atomic_inc(&acquired);
			return &pool[i];
		}
	}
	return NULL;
}

__bpf_kfunc void kptr_defer_test_obj_release(struct kptr_defer_test_obj *obj)
{
	if (inline_drop)
		kptr_defer_test_obj_free(&obj->slot);
	else if (kptr_defer_drop(&obj->slot, kptr_defer_test_obj_free))
		atomic_inc(&deferred);
}

__bpf_kfunc_end_defs();

KPTR_DEFER_DTOR(kptr_defer_test_obj_release_dtor, struct kptr_defer_test_obj, slot,
		kptr_defer_test_obj_free);

static noinline void kptr_defer_test_user_locked(void)
{
	barrier();
}

static const unsigned int hold_us = 100;

static int lock_set(void *data, u64 rounds)
{
	unsigned long flags;

	while (rounds--) {
		/* Before it does and after it did, too, so that no NMI can come between. */
		local_irq_save(flags);
		this_cpu_write(holds_lock, true);
		raw_spin_lock(&lock);
		kptr_defer_test_user_locked();
		udelay(hold_us);
		raw_spin_unlock(&lock);
		this_cpu_write(holds_lock, false);
		local_irq_restore(flags);
		cond_resched();
	}
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(lock_fops, NULL, lock_set, "%llu\n");

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, kptr_defer_test_obj_acquire, KF_ACQUIRE | KF_RET_NULL)
BTF_ID_FLAGS(func, kptr_defer_test_obj_release, KF_RELEASE)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

BTF_ID_LIST(dtor_ids)
BTF_ID(struct, kptr_defer_test_obj)
BTF_ID(func, kptr_defer_test_obj_release_dtor)

static struct dentry *dir;

static int __init test_user_init(void)
{
	const struct btf_id_dtor_kfunc dtor = {
		.btf_id = dtor_ids[0],
		.kfunc_btf_id = dtor_ids[1],
	};
	int err;

	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING, &kfunc_set);
	err = err ?: register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &kfunc_set);
	err = err ?: register_btf_id_dtor_kfuncs(&dtor, 1, THIS_MODULE);
	if (err)
		return err;
	dir = debugfs_create_dir("kptr_defer_test_user", NULL);
	debugfs_create_file_unsafe("lock", 0200, dir, NULL, &lock_fops);
	debugfs_create_atomic_t("acquired", 0400, dir, &acquired);
	debugfs_create_atomic_t("deferred", 0400, dir, &deferred);
	debugfs_create_atomic_t("dropped", 0400, dir, &dropped);
	debugfs_create_atomic_t("dropped_in_nmi", 0400, dir, &dropped_in_nmi);
	debugfs_create_atomic_t("deadlocks", 0400, dir, &deadlocks);
	return 0;
}
module_init(test_user_init);

static void __exit test_user_exit(void)
{
	debugfs_remove(dir);
	kptr_defer_barrier();
	WARN_ON(atomic_read(&acquired) != atomic_read(&dropped));
}
module_exit(test_user_exit);

MODULE_DESCRIPTION("User of the C API for the tests of kptr_defer");
MODULE_LICENSE("GPL");
