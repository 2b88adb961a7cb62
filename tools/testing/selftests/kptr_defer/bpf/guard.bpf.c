// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that know nothing of kptr_defer: they hold tasks and cgroups in maps
 * with the kernel's own kfuncs, and give them back in NMI. Others beside them look
 * at what the kernel does then.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "in_nmi.bpf.h"

char _license[] SEC("license") = "GPL";

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern struct cgroup *bpf_cgroup_from_id(u64 cgid) __ksym;
extern struct cgroup *bpf_cgroup_acquire(struct cgroup *cgrp) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgrp) __ksym;
extern struct mem_cgroup *bpf_get_mem_cgroup(struct cgroup_subsys_state *css) __ksym;
extern void bpf_put_mem_cgroup(struct mem_cgroup *memcg) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

/* in_nmi() of the kernel, from kptr_defer_test_nmi.ko. */
extern bool kptr_defer_test_in_nmi(void) __ksym;
/* And what calls the destructors. */
extern void kptr_defer_test_task_dtor(struct task_struct *task, u64 dtor) __ksym;
extern void kptr_defer_test_cgroup_dtor(struct cgroup *cgrp, u64 dtor) __ksym;

struct of_kind {
	__u64 objects;		/* that were put into maps */
	__u64 released;		/* references given back in NMI */
	__u64 last;		/* of those, each object's last one */
	__u64 freed;
	__u64 freed_uneven;	/* of those, with a count that is not 0 */
};

/* Of a program on the entry or exit of bpf_task_release(), for calls in NMI. */
struct of_watcher {
	__u64 right;		/* it saw the task that is being released */
	__u64 wrong;
};

/* All of .bss. Read as struct Seen by src/guard.rs. */
struct seen {
	__u64 nmi;		/* runs of an NMI program in NMI */
	__u64 not_nmi;		/* and elsewhere */
	__u64 call_rcu;		/* in NMI, by a release */
	__u64 queue_work;
	struct of_kind task, cgroup, memcg;
	struct of_watcher fentry, fexit, kprobe;
	__u64 unexpected;	/* objects in a map with another count than expected */
	__u64 users;		/* of all tasks in a map: the sum of their counts */
	__u64 visits;
	__u64 acquired;		/* again, after the last reference was given back */
	__u64 refused;
	__u64 turn;		/* what has been done: enum turn */
	__u64 timeouts;		/* of those that waited for it */
} seen = {};

#define count(what) ((void)__sync_fetch_and_add(&seen.what, 1))

static __always_inline void count_run(void)
{
	if (kptr_defer_test_in_nmi())
		count(nmi);
	else
		count(not_nmi);
}

/* Each object that a map holds, or held until it was freed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u32);
} objects SEC(".maps");

static __always_inline bool add_object(u64 address)
{
	u32 unused = 0;

	return !bpf_map_update_elem(&objects, &address, &unused, BPF_NOEXIST);
}

static __always_inline bool remove_object(u64 address)
{
	return !bpf_map_delete_elem(&objects, &address);
}

static __always_inline long css_count(struct cgroup_subsys_state *css)
{
	return css->refcnt.data->count.counter;
}

static __always_inline bool has_users(struct task_struct *task, int users)
{
	return task->rcu_users.refs.counter == users;
}

static __always_inline bool css_has_users(struct cgroup_subsys_state *css, int users)
{
	return css->refcnt.percpu_count_ptr & __PERCPU_REF_ATOMIC && css_count(css) == users;
}

static __always_inline bool is_last_of_task(struct task_struct *task)
{
	return has_users(task, 1);
}

static __always_inline bool is_last_of_css(struct cgroup_subsys_state *css)
{
	return css_has_users(css, 1);
}

/* What this CPU is releasing: the memory that call_rcu() or queue_work() would get. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} releasing SEC(".maps");

/* Returns what an interrupted program was releasing, to be set again. */
static __always_inline u64 set_releasing(u64 memory)
{
	u64 *here, outer;
	u32 key = 0;

	here = bpf_map_lookup_elem(&releasing, &key);
	if (!here)
		return 0;
	outer = *here;
	*here = memory;
	return outer;
}

static __always_inline bool is_releasing(u64 memory)
{
	u32 key = 0;
	u64 *here = bpf_map_lookup_elem(&releasing, &key);

	return here && *here == memory && kptr_defer_test_in_nmi();
}

enum dtor { TASK, CGROUP, DTORS };

/* Their addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DTORS);
	__type(key, u32);
	__type(value, u64);
} dtors SEC(".maps");

static __always_inline u64 dtor_of(u32 kind)
{
	u64 *dtor = bpf_map_lookup_elem(&dtors, &kind);

	return dtor ? *dtor : 0;
}

static __always_inline void count_release(struct of_kind *kind, bool last)
{
	if (!kptr_defer_test_in_nmi())
		return;
	__sync_fetch_and_add(&kind->released, 1);
	if (last)
		__sync_fetch_and_add(&kind->last, 1);
}

static __always_inline void release_task(struct task_struct *task, bool by_dtor)
{
	u64 outer = set_releasing((u64)&task->rcu);

	count_release(&seen.task, is_last_of_task(task));
	if (by_dtor)
		kptr_defer_test_task_dtor(task, dtor_of(TASK));
	else
		bpf_task_release(task);
	set_releasing(outer);
}

static __always_inline void release_cgroup(struct cgroup *cgrp, bool by_dtor)
{
	u64 outer = set_releasing((u64)&cgrp->self.destroy_work);

	count_release(&seen.cgroup, is_last_of_css(&cgrp->self));
	if (by_dtor)
		kptr_defer_test_cgroup_dtor(cgrp, dtor_of(CGROUP));
	else
		bpf_cgroup_release(cgrp);
	set_releasing(outer);
}

static __always_inline void release_memcg(struct mem_cgroup *memcg)
{
	u64 outer = set_releasing((u64)&memcg->css.destroy_work);

	count_release(&seen.memcg, is_last_of_css(&memcg->css));
	bpf_put_mem_cgroup(memcg);
	set_releasing(outer);
}

SEC("fentry/call_rcu")
int BPF_PROG(on_call_rcu, struct callback_head *head)
{
	if (is_releasing((u64)head))
		count(call_rcu);
	return 0;
}

SEC("fentry/queue_work_on")
int BPF_PROG(on_queue_work, int cpu, struct workqueue_struct *wq, struct work_struct *work)
{
	if (is_releasing((u64)work))
		count(queue_work);
	return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(on_task_free, struct task_struct *task)
{
	if (!remove_object((u64)task))
		return 0;
	count(task.freed);
	if (task->rcu_users.refs.counter)
		count(task.freed_uneven);
	return 0;
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(on_cgroup_free, struct cgroup *cgrp, const char *path)
{
	if (!remove_object((u64)cgrp))
		return 0;
	count(cgroup.freed);
	if (css_count(&cgrp->self))
		count(cgroup.freed_uneven);
	return 0;
}

#define SLOTS 128U
#define USES 100

struct pair {
	struct task_struct __kptr *task;
	struct cgroup __kptr *cgroup;
};

#define MAP(name, map_type, flags, entries)		\
	struct {					\
		__uint(type, map_type);			\
		__uint(map_flags, flags);		\
		__uint(max_entries, entries);		\
		__type(key, u32);			\
		__type(value, struct pair);		\
	} name SEC(".maps")

MAP(array, BPF_MAP_TYPE_ARRAY, 0, SLOTS);
MAP(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 0, SLOTS);
MAP(hash, BPF_MAP_TYPE_HASH, 0, SLOTS);
MAP(hash_no_prealloc, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, SLOTS);
MAP(lru_hash, BPF_MAP_TYPE_LRU_HASH, 0, 4 * SLOTS);

struct put_args {
	__u32 slot;
	__s32 pid;
	__u64 cgroup_id;
};

static __always_inline long put_pair(void *map, struct put_args *args)
{
	struct task_struct *task;
	struct cgroup *cgrp;
	struct pair *pair, empty = {};
	u32 slot = args->slot;

	bpf_map_update_elem(map, &slot, &empty, BPF_NOEXIST);
	pair = bpf_map_lookup_elem(map, &slot);
	if (!pair)
		return 1;
	seen.turn = 0;
	task = bpf_task_from_pid(args->pid);
	if (!task)
		return 2;
	if (add_object((u64)task))
		count(task.objects);
	task = bpf_kptr_xchg(&pair->task, task);
	if (task)
		bpf_task_release(task);
	cgrp = bpf_cgroup_from_id(args->cgroup_id);
	if (!cgrp)
		return 3;
	if (add_object((u64)cgrp))
		count(cgroup.objects);
	cgrp = bpf_kptr_xchg(&pair->cgroup, cgrp);
	if (cgrp)
		bpf_cgroup_release(cgrp);
	return 0;
}

struct look_args {
	__u64 users;		/* that are expected */
};

static __always_inline long look_at_all(void *map, struct look_args *args)
{
	int users = args->users;
	u32 key;

	seen.unexpected = 0;
	seen.users = 0;
	bpf_rcu_read_lock();
	bpf_for(key, 0, SLOTS) {
		struct task_struct *task;
		struct cgroup *cgrp;
		struct pair *pair;
		u32 slot = key;

		pair = bpf_map_lookup_elem(map, &slot);
		if (!pair)
			continue;
		task = pair->task;
		if (task) {
			seen.users += task->rcu_users.refs.counter;
			seen.unexpected += !has_users(task, users);
		}
		cgrp = pair->cgroup;
		if (cgrp)
			seen.unexpected += !css_has_users(&cgrp->self, users);
	}
	bpf_rcu_read_unlock();
	return 0;
}

static __always_inline void give_back(struct pair *pair, bool by_dtor)
{
	struct task_struct *task = bpf_kptr_xchg(&pair->task, NULL);
	struct cgroup *cgrp = bpf_kptr_xchg(&pair->cgroup, NULL);

	if (task)
		release_task(task, by_dtor);
	if (cgrp)
		release_cgroup(cgrp, by_dtor);
}

static __always_inline int give_back_all(void *map, bool by_dtor)
{
	struct pair *pair;
	u32 key;

	count_run();
	bpf_for(key, 0, SLOTS) {
		u32 slot = key;

		pair = bpf_map_lookup_elem(map, &slot);
		if (pair)
			give_back(pair, by_dtor);
	}
	return 0;
}

#define PROGRAMS(map)							\
SEC("syscall") int put_##map(struct put_args *args)			\
{									\
	return put_pair(&map, args);					\
}									\
									\
SEC("syscall") int look_##map(struct look_args *args)			\
{									\
	return look_at_all(&map, args);					\
}									\
									\
IN_NMI(map, give_back_all(&map, false))

PROGRAMS(array)
PROGRAMS(percpu_array)
PROGRAMS(hash)
PROGRAMS(hash_no_prealloc)
PROGRAMS(lru_hash)

SEC("tp_btf/kptr_defer_test_nmi")
int from_tp_btf(void *ctx)
{
	return give_back_all(&array, false);
}

SEC("raw_tp/kptr_defer_test_nmi")
int from_raw_tp(void *ctx)
{
	return give_back_all(&array, false);
}

SEC("tp/kptr_defer_test/kptr_defer_test_nmi")
int from_tp(void *ctx)
{
	return give_back_all(&array, false);
}

SEC("fentry/kptr_defer_test_nmi_point")
int from_fentry(void *ctx)
{
	return give_back_all(&array, false);
}

/* Not for these two: the verifier refuses them. */
SEC("kprobe/kptr_defer_test_nmi_point")
int from_kprobe(void *ctx)
{
	return give_back_all(&array, false);
}

SEC("kprobe.multi/kptr_defer_test_nmi_point")
int from_kprobe_multi(void *ctx)
{
	return give_back_all(&array, false);
}

IN_NMI(by_dtor, give_back_all(&array, true))

/* One pair, in turn, and only if nobody else holds it any more. */
static __always_inline int give_back_last(void)
{
	struct task_struct *task;
	struct cgroup *cgrp;
	struct pair *pair;
	u32 slot;

	count_run();
	slot = __sync_fetch_and_add(&seen.visits, 1) % SLOTS;
	pair = bpf_map_lookup_elem(&array, &slot);
	if (!pair)
		return 0;
	task = pair->task;
	cgrp = pair->cgroup;
	if (task && cgrp && is_last_of_task(task) && is_last_of_css(&cgrp->self))
		give_back(pair, false);
	return 0;
}

IN_NMI(last, give_back_last())

/* Never the last one. */
static __always_inline int give_back_current(void)
{
	struct task_struct *task = bpf_task_acquire(bpf_get_current_task_btf());

	if (task)
		release_task(task, false);
	return 0;
}

IN_NMI(current, give_back_current())

/* How two CPUs go on in turn. */
enum turn {
	FOUND = 1,	/* one has found an object in the map */
	GIVEN_BACK,	/* the other one has given it back, and stays in NMI */
	USED,		/* the first one has used it meanwhile */
	TAKING,
	TAKEN,
};

#define HOLDER 0
#define USER 1

#define PATIENCE 5000000000ULL
#define MOST_TURNS (8 << 20)	/* BPF_MAX_LOOPS of the kernel */

#define wait_until(condition)						\
({									\
	u64 __start = bpf_ktime_get_ns();				\
	bool __true = false;						\
	int __i;							\
									\
	bpf_for(__i, 0, MOST_TURNS) {					\
		__true = condition;					\
		if (__true || bpf_ktime_get_ns() - __start > PATIENCE)	\
			break;						\
	}								\
	if (!__true)							\
		count(timeouts);					\
	__true;								\
})

#define turn_is(what) (__sync_fetch_and_add(&seen.turn, 0) == (what))
#define set_turn(what) ((void)__sync_lock_test_and_set(&seen.turn, what))

/* Until the NMI ends, what it has given back stays on this CPU's queue. */
static __always_inline int hold_queue(void)
{
	struct pair *pair;
	u32 slot = 0;

	pair = bpf_map_lookup_elem(&array, &slot);
	if (!pair || !turn_is(FOUND) || bpf_get_smp_processor_id() != HOLDER)
		return 0;
	count_run();
	give_back(pair, false);
	set_turn(GIVEN_BACK);
	wait_until(turn_is(USED));
	return 0;
}

IN_NMI(hold_queue, hold_queue())

static __always_inline void use_task(struct task_struct *task)
{
	task = bpf_task_acquire(task);
	if (task) {
		count(acquired);
		release_task(task, false);
	} else {
		count(refused);
	}
}

static __always_inline void use_cgroup(struct cgroup *cgrp)
{
	cgrp = bpf_cgroup_acquire(cgrp);
	if (cgrp) {
		count(acquired);
		release_cgroup(cgrp, false);
	} else {
		count(refused);
	}
}

/* All CPUs at once. */
SEC("tp_btf/kptr_defer_test_nmi")
int ipi_use(void *ctx)
{
	struct task_struct *task;
	struct cgroup *cgrp;
	struct pair *pair;
	u32 slot = 0;
	int i;

	pair = bpf_map_lookup_elem(&array, &slot);
	if (!pair)
		return 0;
	task = pair->task;
	cgrp = pair->cgroup;
	if (!task || !cgrp)
		return 0;
	bpf_for(i, 0, USES) {
		use_task(task);
		use_cgroup(cgrp);
	}
	return 0;
}

/* Of two maps with the same objects, one CPU empties this one, the next one that. */
SEC("tp_btf/kptr_defer_test_nmi")
int ipi_both(void *ctx)
{
	if (bpf_get_smp_processor_id() % 2)
		return give_back_all(&hash, false);
	return give_back_all(&array, false);
}

/* Found by RCU only, without a reference. */
static __always_inline int use_queued(void)
{
	struct task_struct *task;
	struct cgroup *cgrp;
	struct pair *pair;
	u32 slot = 0;
	int i;

	pair = bpf_map_lookup_elem(&array, &slot);
	if (!pair || bpf_get_smp_processor_id() != USER)
		return 0;
	task = pair->task;
	cgrp = pair->cgroup;
	if (!task || !cgrp)
		return 0;
	set_turn(FOUND);
	if (!wait_until(turn_is(GIVEN_BACK)))
		return 0;
	bpf_for(i, 0, USES) {
		use_task(task);
		use_cgroup(cgrp);
	}
	set_turn(USED);
	return 0;
}

SEC("syscall")
int syscall_use(void *ctx)
{
	bpf_rcu_read_lock();
	use_queued();
	bpf_rcu_read_unlock();
	return 0;
}

IN_NMI(use_queued, use_queued())

/* Holds them until the queue is drained, so that it gives back the last ones once more. */
static __always_inline int outlive(void)
{
	struct task_struct *task;
	struct cgroup *cgrp;
	struct pair *pair;
	u32 slot = 0;

	pair = bpf_map_lookup_elem(&array, &slot);
	if (!pair || bpf_get_smp_processor_id() != USER)
		return 0;
	task = pair->task;
	cgrp = pair->cgroup;
	if (!task || !cgrp)
		return 0;
	set_turn(FOUND);
	if (!wait_until(turn_is(GIVEN_BACK)))
		return 0;
	task = bpf_task_acquire(task);
	cgrp = bpf_cgroup_acquire(cgrp);
	set_turn(USED);
	if (task) {
		count(acquired);
		wait_until(is_last_of_task(task));
		release_task(task, false);
	}
	if (cgrp) {
		count(acquired);
		wait_until(is_last_of_css(&cgrp->self));
		release_cgroup(cgrp, false);
	}
	return 0;
}

IN_NMI(outlive, outlive())

static __always_inline struct mem_cgroup *memcg_of(u32 slot)
{
	struct cgroup *cgrp;
	struct pair *pair;

	pair = bpf_map_lookup_elem(&array, &slot);
	if (!pair)
		return NULL;
	cgrp = pair->cgroup;
	return cgrp ? bpf_get_mem_cgroup(&cgrp->self) : NULL;
}

static __always_inline int give_back_memcgs(void)
{
	struct mem_cgroup *memcg;
	u32 key;

	count_run();
	bpf_for(key, 0, SLOTS) {
		memcg = memcg_of(key);
		if (memcg)
			release_memcg(memcg);
	}
	return 0;
}

IN_NMI(memcg, give_back_memcgs())

static __always_inline u64 memory_css(void)
{
	struct cgroup *cgrp;
	struct pair *pair;
	u32 slot = 0;

	pair = bpf_map_lookup_elem(&array, &slot);
	if (!pair)
		return 0;
	cgrp = pair->cgroup;
	return cgrp ? (u64)cgrp->subsys[memory_cgrp_id] : 0;
}

/* The kernel is about to give up the reference that keeps a memory cgroup alive. */
SEC("fentry/css_killed_work_fn")
int BPF_PROG(on_css_killed, struct work_struct *work)
{
	u64 css = (u64)work - bpf_core_field_offset(struct cgroup_subsys_state, destroy_rwork);
	u64 outer;

	if (memory_css() != css)
		return 0;
	outer = set_releasing(css);
	set_turn(FOUND);
	wait_until(turn_is(TAKEN));
	set_releasing(outer);
	return 0;
}

/* Another CPU takes one more meanwhile, and has the last one then. */
static __always_inline int give_back_last_memcg(void)
{
	struct mem_cgroup *memcg;

	if (!turn_is(FOUND) || is_releasing(memory_css()))
		return 0;
	if (__sync_val_compare_and_swap(&seen.turn, FOUND, TAKING) != FOUND)
		return 0;
	memcg = memcg_of(0);
	set_turn(TAKEN);
	if (!memcg)
		return 0;
	wait_until(is_last_of_css(&memcg->css));
	release_memcg(memcg);
	return 0;
}

IN_NMI(last_memcg, give_back_last_memcg())

static __always_inline void watch(struct of_watcher *watcher, struct task_struct *task)
{
	u64 rcu = (u64)task + bpf_core_field_offset(struct task_struct, rcu);

	if (is_releasing(rcu))
		__sync_fetch_and_add(&watcher->right, 1);
	else if (kptr_defer_test_in_nmi())
		__sync_fetch_and_add(&watcher->wrong, 1);
}

SEC("fentry/bpf_task_release")
int BPF_PROG(fentry_release, struct task_struct *task)
{
	watch(&seen.fentry, task);
	return 0;
}

SEC("fexit/bpf_task_release")
int BPF_PROG(fexit_release, struct task_struct *task)
{
	watch(&seen.fexit, task);
	return 0;
}

SEC("kprobe/bpf_task_release")
int BPF_KPROBE(kprobe_release, struct task_struct *task)
{
	watch(&seen.kprobe, task);
	return 0;
}

/* Makes the drain of a full map last. */
SEC("fentry/bpf_task_release_dtor")
int slow_dtor(void *ctx)
{
	u64 start = bpf_ktime_get_ns();
	int i;

	bpf_for(i, 0, MOST_TURNS) {
		if (bpf_ktime_get_ns() - start > 5000000)
			break;
	}
	return 0;
}
