// SPDX-License-Identifier: GPL-2.0
/*
 * A kptr type whose destructor sleeps, at least as long as hold=1. Writing to
 * <debugfs>/kptr_defer_test_sleep/barrier calls kptr_defer_barrier().
 */

#include <linux/bitmap.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/cfi.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>

#include <kptr_defer.h>

static bool hold;
module_param(hold, bool, 0644);
MODULE_PARM_DESC(hold, "destructors go on sleeping");

struct kptr_defer_test_sleeper {
	struct kptr_defer_slot slot;
};

/* As in kptr_defer_test_user.c: there to be had in any context. */
static struct kptr_defer_test_sleeper pool[64];
static DECLARE_BITMAP(pool_used, ARRAY_SIZE(pool));

static DEFINE_MUTEX(mutex);

static atomic_t acquired, asleep, dropped, dropped_again, dropped_where_it_cannot_sleep;

static void sleeper_free(struct kptr_defer_slot *slot)
{
	struct kptr_defer_test_sleeper *sleeper =
		container_of(slot, struct kptr_defer_test_sleeper, slot);

	if (!in_task() || !preemptible() || rcu_preempt_depth()) {
		atomic_inc(&dropped_where_it_cannot_sleep);
	} else {
		guard(mutex)(&mutex);
		atomic_inc(&asleep);
		do
			msleep(20);
		while (READ_ONCE(hold));
		atomic_dec(&asleep);
	}
	atomic_inc(&dropped);
	if (!test_and_clear_bit(sleeper - pool, pool_used))
		atomic_inc(&dropped_again);
}

__bpf_kfunc_start_defs();

__bpf_kfunc struct kptr_defer_test_sleeper *kptr_defer_test_sleeper_acquire(void)
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

__bpf_kfunc void kptr_defer_test_sleeper_release(struct kptr_defer_test_sleeper *sleeper)
{
	kptr_defer_drop_sleepable(&sleeper->slot, sleeper_free);
}

__bpf_kfunc void kptr_defer_test_sleeper_release_dtor(void *sleeper)
{
	kptr_defer_test_sleeper_release(sleeper);
}

CFI_NOSEAL(kptr_defer_test_sleeper_release_dtor);

__bpf_kfunc_end_defs();

static int barrier_set(void *data, u64 unused)
{
	kptr_defer_barrier();
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(barrier_fops, NULL, barrier_set, "%llu\n");

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, kptr_defer_test_sleeper_acquire, KF_ACQUIRE | KF_RET_NULL)
BTF_ID_FLAGS(func, kptr_defer_test_sleeper_release, KF_RELEASE)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

BTF_ID_LIST(dtor_ids)
BTF_ID(struct, kptr_defer_test_sleeper)
BTF_ID(func, kptr_defer_test_sleeper_release_dtor)

static struct dentry *dir;

static int __init test_sleep_init(void)
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
	dir = debugfs_create_dir("kptr_defer_test_sleep", NULL);
	debugfs_create_file_unsafe("barrier", 0200, dir, NULL, &barrier_fops);
	debugfs_create_atomic_t("acquired", 0400, dir, &acquired);
	debugfs_create_atomic_t("asleep", 0400, dir, &asleep);
	debugfs_create_atomic_t("dropped", 0400, dir, &dropped);
	debugfs_create_atomic_t("dropped_again", 0400, dir, &dropped_again);
	debugfs_create_atomic_t("dropped_where_it_cannot_sleep", 0400, dir,
				&dropped_where_it_cannot_sleep);
	return 0;
}
module_init(test_sleep_init);

static void __exit test_sleep_exit(void)
{
	debugfs_remove(dir);
	kptr_defer_barrier();
	WARN_ON(atomic_read(&acquired) != atomic_read(&dropped));
}
module_exit(test_sleep_exit);

MODULE_DESCRIPTION("Drops that sleep, for the tests of kptr_defer");
MODULE_LICENSE("GPL");
