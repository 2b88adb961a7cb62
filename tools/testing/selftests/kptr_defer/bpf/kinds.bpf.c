// SPDX-License-Identifier: GPL-2.0
/*
 * Handles on each kind of object: found in NMI, taken, kept in a map, given back in
 * NMI when the object is dead. Beside them, programs where the kernel frees objects.
 */
#include "common.bpf.h"
#include <bpf/bpf_core_read.h>

char _license[] SEC("license") = "GPL";

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern struct cgroup *bpf_cgroup_ancestor(struct cgroup *cgrp, int level) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgrp) __ksym;

/* What the children of the workload have of their own (src/workload.rs). */
#define FIRST_UID 20000U
#define UIDS 10000U
#define FD 100

/*
 * How a program gets at an object. The credentials are those of the thread group's
 * leader, so that another CPU may change them.
 */
#define found_task() bpf_get_current_task_btf()
#define found_cgroup() (bpf_get_current_task_btf()->cgroups->dfl_cgrp)
#define found_cred() bpf_kptr_defer_task_cred(bpf_get_current_task_btf()->group_leader)
#define found_file() FD
#define found_mm() bpf_kptr_defer_current_mm()

#define take_found_task(task) take_task(task)
#define take_found_cgroup(cgrp) take_cgroup(cgrp)
#define take_found_cred(cred) take_cred(cred)
#define take_found_file(fd) taken_file(bpf_kptr_defer_file_acquire_fd(fd))
#define take_found_mm(mm) take_mm(mm)

/* What user space knows it by. */
#define id_of_task(task) ((task)->pid)
#define id_of_cgroup(cgrp) ((cgrp)->kn->id)
#define id_of_cred(cred) ((cred)->uid.val)
#define id_of_file(file) ((file)->f_inode->i_ino)
#define id_of_mm(mm) ((mm)->brk)

/* How many references there are, if no CPU has some of its own. */
#define refs_of_task(task) ((task)->usage.refs.counter)
#define refs_of_cgroup(cgrp) ((cgrp)->self.refcnt.data->count.counter)
#define refs_of_cred(cred) ((cred)->usage.counter)
#define refs_of_file(file) ((file)->f_ref.refcnt.counter + 1)
#define refs_of_mm(mm) ((mm)->mm_users.counter)

/* An object that was taken, or one that had its address before. */
struct watched {
	u64 address;
	u64 taken;		/* how often, since the last one at the address was freed */
	u64 held;		/* handles */
};

#define WATCHED_BITS 14

/* A hash table that needs no lock, whatever it is that an NMI interrupts. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << WATCHED_BITS);
	__type(key, u32);
	__type(value, struct watched);
} watched SEC(".maps");

/* As a number: the verifier does not allow arithmetic with pointers. */
static __always_inline u64 address_of(const void *object)
{
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &object);
	return address;
}

/* It has the first of these that was free when it came. */
#define PLACES 8

static __always_inline struct watched *place_of(u64 address, u32 i)
{
	u32 key = address * 0x9e3779b97f4a7c15 >> (64 - WATCHED_BITS);

	key = (key + i) % (1 << WATCHED_BITS);
	return bpf_map_lookup_elem(&watched, &key);
}

/* NULL when others have all its places. */
static __always_inline struct watched *watch(const void *object)
{
	u64 address = address_of(object), there;
	struct watched *w;
	u32 i;

	bpf_for(i, 0, PLACES) {
		w = place_of(address, i);
		if (!w)
			return NULL;
		there = __sync_val_compare_and_swap(&w->address, 0, address);
		if (!there || there == address)
			return w;
	}
	return NULL;
}

/* NULL if it was never taken. */
static __always_inline struct watched *taken(u64 address)
{
	struct watched *w;
	u32 i;

	bpf_for(i, 0, PLACES) {
		w = place_of(address, i);
		if (!w || !w->address)
			return NULL;
		if (w->address == address)
			return w->taken ? w : NULL;
	}
	return NULL;
}

static __always_inline void freed(u64 address)
{
	struct watched *w = taken(address);

	if (!w)
		return;
	count(freed);
	if (w->held)
		count(freed_while_held);
	w->taken = 0;
}

/* Whether the current task is one of the workload's. */
static __always_inline bool has_own_objects(void)
{
	const struct cred *cred = bpf_get_current_task_btf()->real_cred;

	return cred && cred->uid.val - FIRST_UID < UIDS;
}

/* So that it may put the object that has just been found. */
static __always_inline u32 time_for_the_leader(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return task->pid == task->tgid ? 0 : 10000;
}

/* Odd, so that the slots that one of two CPUs uses do not split by parity. */
#define SLOTS 15U
#define ONE_STAYS 32

/* The context of syscall programs. Read as struct Args by src/kinds.rs. */
struct args {
	u64 slot;
	u64 id;			/* of the object in it, read through _get() */
	u64 refs;
	u64 again;		/* it could be taken again */
	u64 passed_on;		/* what a kfunc of the kernel made of it */
};

/* What kfuncs of the kernel take what _get() gives; no other kind has any. */
static __always_inline u64 pass_on_task(struct task_struct *task)
{
	task = bpf_task_acquire(task);
	if (!task)
		return 0;
	bpf_task_release(task);
	return 1;
}

static __always_inline u64 pass_on_cgroup(struct cgroup *cgrp)
{
	u64 id;

	cgrp = bpf_cgroup_ancestor(cgrp, cgrp->level - 1);
	if (!cgrp)
		return 0;
	id = cgrp->kn->id;
	bpf_cgroup_release(cgrp);
	return id;
}

#define pass_on_cred(cred) 0
#define pass_on_file(file) 0
#define pass_on_mm(mm) 0

#define KIND(kind, object_type)								\
struct held_##kind {									\
	struct kptr_defer_##kind __kptr *h;						\
};											\
											\
struct {										\
	__uint(type, BPF_MAP_TYPE_ARRAY);						\
	__uint(max_entries, SLOTS);							\
	__type(key, u32);								\
	__type(value, struct held_##kind);						\
} kind##_slots SEC(".maps");								\
											\
static __always_inline void give_back_##kind(struct kptr_defer_##kind *h)		\
{											\
	object_type *object = bpf_kptr_defer_##kind##_get(h);				\
	struct watched *w = watch(object);						\
											\
	if (w)										\
		__sync_fetch_and_sub(&w->held, 1);					\
	count(released);								\
	if (kptr_defer_test_in_nmi()) {							\
		count(released_in_nmi);							\
		if (refs_of_##kind(object) == 1)					\
			count(last_in_nmi);						\
	}										\
	bpf_kptr_defer_##kind##_release(h);						\
}											\
											\
static __always_inline struct kptr_defer_##kind *					\
taken_##kind(struct kptr_defer_##kind *h)						\
{											\
	struct watched *w;								\
											\
	if (!h) {									\
		count(acquire_failed);							\
		return NULL;								\
	}										\
	count(acquired);								\
	if (kptr_defer_test_in_nmi())							\
		count(acquired_in_nmi);							\
	w = watch(h->kind);								\
	if (!w) {									\
		give_back_##kind(h);							\
		return NULL;								\
	}										\
	if (!__sync_fetch_and_add(&w->taken, 1))					\
		count(objects);								\
	__sync_fetch_and_add(&w->held, 1);						\
	return h;									\
}											\
											\
static __always_inline struct kptr_defer_##kind *take_##kind(object_type *object)	\
{											\
	return object ? taken_##kind(bpf_kptr_defer_##kind##_acquire(object)) : NULL;	\
}											\
											\
static __always_inline struct kptr_defer_##kind *					\
exchange_##kind(u32 slot, struct kptr_defer_##kind *h)					\
{											\
	struct held_##kind *value = bpf_map_lookup_elem(&kind##_slots, &slot);		\
											\
	return value ? bpf_kptr_xchg(&value->h, h) : h;					\
}											\
											\
static __always_inline int replace_##kind(u32 slot)					\
{											\
	struct kptr_defer_##kind *h = take_found_##kind(found_##kind());		\
											\
	if (h)										\
		h = exchange_##kind(slot, h);						\
	if (h)										\
		give_back_##kind(h);							\
	return 0;									\
}											\
											\
static __always_inline int replace_##kind##_in_nmi(void)				\
{											\
	if (!has_own_objects())								\
		return 0;								\
	count_run();									\
	return replace_##kind(counted.nmi % SLOTS);					\
}											\
											\
IN_NMI(kind, replace_##kind##_in_nmi())							\
											\
static __always_inline int replace_##kind##_in_race(void)				\
{											\
	typeof(found_##kind()) found;							\
	struct kptr_defer_##kind *h;							\
	u32 i;										\
											\
	if (!has_own_objects())								\
		return 0;								\
	/* Of many handles one stays, until its object has ended. */			\
	if (counted.nmi % ONE_STAYS == 0)						\
		return replace_##kind##_in_nmi();					\
	count_run();									\
	found = found_##kind();								\
	bpf_for(i, 0, time_for_the_leader())						\
		;									\
	h = take_found_##kind(found);							\
	if (h)										\
		give_back_##kind(h);							\
	return 0;									\
}											\
											\
IN_NMI(race_##kind, replace_##kind##_in_race())						\
											\
SEC("raw_tp/kptr_defer_test_nmi")							\
int raw_tp_##kind(void *ctx)								\
{											\
	return replace_##kind##_in_nmi();						\
}											\
											\
SEC("tp/kptr_defer_test/kptr_defer_test_nmi")						\
int tp_##kind(void *ctx)								\
{											\
	return replace_##kind##_in_nmi();						\
}											\
											\
SEC("fentry/kptr_defer_test_nmi_point")							\
int fentry_##kind(void *ctx)								\
{											\
	return replace_##kind##_in_nmi();						\
}											\
											\
SEC("kprobe/kptr_defer_test_nmi_point")							\
int kprobe_##kind(void *ctx)								\
{											\
	return replace_##kind##_in_nmi();						\
}											\
											\
/* Takes what the current task has. */							\
SEC("syscall")										\
int fill_##kind(struct args *args)							\
{											\
	bpf_rcu_read_lock();								\
	replace_##kind(args->slot);							\
	bpf_rcu_read_unlock();								\
	return 0;									\
}											\
											\
/* Gives back what is in any slot. */							\
SEC("syscall")										\
int empty_##kind(void *ctx)								\
{											\
	struct kptr_defer_##kind *h;							\
	u32 slot;									\
											\
	bpf_for(slot, 0, SLOTS) {							\
		h = exchange_##kind(slot, NULL);					\
		if (!h)									\
			continue;							\
		bpf_rcu_read_lock();							\
		give_back_##kind(h);							\
		bpf_rcu_read_unlock();							\
	}										\
	return 0;									\
}											\
											\
SEC("syscall")										\
int look_at_##kind(struct args *args)							\
{											\
	struct kptr_defer_##kind *h = exchange_##kind(args->slot, NULL), *again;	\
	object_type *object;								\
											\
	if (!h)										\
		return 1;								\
	bpf_rcu_read_lock();								\
	object = bpf_kptr_defer_##kind##_get(h);					\
	args->refs = refs_of_##kind(object);						\
	args->id = id_of_##kind(object);						\
	args->passed_on = pass_on_##kind(object);					\
	again = take_##kind(object);							\
	args->again = !!again;								\
	if (again)									\
		give_back_##kind(again);						\
	h = exchange_##kind(args->slot, h);						\
	if (h)										\
		give_back_##kind(h);							\
	bpf_rcu_read_unlock();								\
	return 0;									\
}											\
											\
/* Gives back the last handle, and tries to take another one on what is left. */	\
SEC("syscall")										\
int take_after_end_of_##kind(struct args *args)						\
{											\
	struct kptr_defer_##kind *h = exchange_##kind(args->slot, NULL);		\
	object_type *object;								\
											\
	if (!h)										\
		return 1;								\
	bpf_rcu_read_lock();								\
	object = bpf_kptr_defer_##kind##_get(h);					\
	give_back_##kind(h);								\
	h = take_##kind(object);							\
	args->again = !!h;								\
	if (h)										\
		give_back_##kind(h);							\
	bpf_rcu_read_unlock();								\
	return 0;									\
}											\
											\
/* Takes handles until another CPU has given back the one in the slot. */			\
SEC("syscall")										\
int take_until_end_of_##kind(struct args *args)						\
{											\
	struct kptr_defer_##kind *h = exchange_##kind(args->slot, NULL);		\
	object_type *object;								\
	u32 i;										\
											\
	if (!h)										\
		return 1;								\
	args->again = 1;								\
	count(taking);									\
	bpf_rcu_read_lock();								\
	object = bpf_kptr_defer_##kind##_get(h);					\
	h = exchange_##kind(args->slot, h);						\
	if (h)										\
		give_back_##kind(h);							\
	bpf_for(i, 0, 1 << 20) {							\
		h = take_##kind(object);						\
		args->again = !!h;							\
		if (!h)									\
			break;								\
		give_back_##kind(h);							\
	}										\
	bpf_rcu_read_unlock();								\
	return 0;									\
}											\
											\
static __always_inline void dying_##kind(object_type *object)				\
{											\
	struct kptr_defer_##kind *h = take_##kind(object);				\
											\
	if (h)										\
		give_back_##kind(h);							\
	else										\
		count(dying_refused);							\
}

KIND(task, struct task_struct)
KIND(cgroup, struct cgroup)
KIND(cred, const struct cred)
KIND(file, struct file)
KIND(mm, struct mm_struct)

/* Where objects are freed. */

SEC("fentry/security_task_free")
int BPF_PROG(freed_task, struct task_struct *task)
{
	freed(address_of(task));
	return 0;
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(freed_cgroup, struct cgroup *cgrp)
{
	freed(address_of(cgrp));
	return 0;
}

SEC("fentry/put_cred_rcu")
int BPF_PROG(freed_cred, struct callback_head *rcu)
{
	freed(address_of(rcu) - bpf_core_field_offset(struct cred, rcu));
	return 0;
}

SEC("fentry/__fput")
int BPF_PROG(freed_file, struct file *file)
{
	freed(address_of(file));
	return 0;
}

SEC("fentry/__mmdrop")
int BPF_PROG(freed_mm, struct mm_struct *mm)
{
	if (taken(address_of(mm)) && in_kworker())
		count(freed_in_kworker);
	freed(address_of(mm));
	return 0;
}

/* Not freed yet, but nothing is mapped there any more. */
SEC("fentry/exit_mmap")
int BPF_PROG(ended_mm, struct mm_struct *mm)
{
	struct watched *w = taken(address_of(mm));

	if (!w)
		return 0;
	if (w->held)
		count(freed_while_held);
	if (in_kworker())
		count(ended_in_kworker);
	return 0;
}

/* And where a count has just become zero. */

SEC("tp_btf/sched_process_free")
int BPF_PROG(on_dying_task, struct task_struct *task)
{
	dying_task(task);
	return 0;
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(on_dying_cgroup, struct cgroup *cgrp)
{
	dying_cgroup(cgrp);
	return 0;
}

SEC("lsm/cred_free")
int BPF_PROG(on_dying_cred, struct cred *cred)
{
	dying_cred(cred);
	return 0;
}

SEC("lsm/file_release")
int BPF_PROG(on_dying_file, struct file *file)
{
	dying_file(file);
	return 0;
}

/* Or where an object is not finished. */
SEC("lsm/file_open")
int BPF_PROG(on_opening_file, struct file *file)
{
	dying_file(file);
	return 0;
}

SEC("tp_btf/exit_mmap")
int BPF_PROG(on_dying_mm, struct mm_struct *mm)
{
	dying_mm(mm);
	return 0;
}

/* What drops call, and nothing else in NMI. */
#define NOT_IN_NMI(function)					\
SEC("fentry/" #function)					\
int on_##function(void *ctx)					\
{								\
	if (kptr_defer_test_in_nmi())				\
		count(put_in_nmi);				\
	return 0;						\
}

NOT_IN_NMI(call_rcu)
NOT_IN_NMI(css_release)
NOT_IN_NMI(fput)
NOT_IN_NMI(mmput)

/* Credentials that access() makes for itself: they are not freed by RCU. */
SEC("lsm/cred_prepare")
int BPF_PROG(take_prepared_cred, struct cred *prepared, const struct cred *old, gfp_t gfp, int ret)
{
	struct kptr_defer_cred *h;

	/* The task makes others later. */
	if (!has_own_objects() || counted.acquired)
		return ret;
	h = take_cred(prepared);
	if (h)
		h = exchange_cred(0, h);
	if (h)
		give_back_cred(h);
	return ret;
}

/* Whether what is held there is one of those, and not freed before its readers are gone. */
SEC("syscall")
int give_back_prepared_cred(struct args *args)
{
	struct kptr_defer_cred *h = exchange_cred(args->slot, NULL);
	const struct cred *cred;

	if (!h)
		return 1;
	bpf_rcu_read_lock();
	cred = bpf_kptr_defer_cred_get(h);
	args->id = id_of_cred(cred);
	args->refs = refs_of_cred(cred);
	args->passed_on = cred->non_rcu;
	give_back_cred(h);
	args->again = !!taken(address_of(cred));
	bpf_rcu_read_unlock();
	return 0;
}

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *task,
				 u64 address) __ksym;
extern struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it) __ksym;
extern void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it) __ksym;

/*
 * The verifier trusts an address space that the iterator has let go of. The slot is
 * the task's pid.
 */
SEC("syscall")
int take_from_other_mm(struct args *args)
{
	struct task_struct *task = bpf_task_from_pid(args->slot);
	struct bpf_iter_task_vma it;
	struct vm_area_struct *vma;
	struct mm_struct *mm = NULL;
	struct kptr_defer_mm *h;

	if (!task)
		return 1;
	bpf_iter_task_vma_new(&it, task, 0);
	vma = bpf_iter_task_vma_next(&it);
	if (vma)
		mm = vma->vm_mm;
	bpf_iter_task_vma_destroy(&it);
	bpf_task_release(task);
	if (!mm)
		return 1;
	h = bpf_kptr_defer_mm_acquire(mm);
	args->again = !!h;
	if (h)
		bpf_kptr_defer_mm_release(h);
	return 0;
}
