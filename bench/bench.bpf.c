// SPDX-License-Identifier: GPL-2.0
/*
 * What is measured, in NMI and outside. Each program takes a reference and times
 * how it is given back, as often as it is told to.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <kptr_defer.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct kptr_defer_slot {
	struct llist_node node;
} __attribute__((preserve_access_index));

struct kptr_defer_bench_object {
	struct kptr_defer_slot slot;
} __attribute__((preserve_access_index));

struct kptr_defer_bench_task {
	struct kptr_defer_slot slot;
} __attribute__((preserve_access_index));

struct kptr_defer_bench_rcu {
	u64 content[2];
} __attribute__((preserve_access_index));

extern u64 kptr_defer_bench_clock(void) __ksym;
extern bool kptr_defer_bench_in_nmi(void) __ksym;
extern void kptr_defer_bench_interrupt(void) __ksym;

extern struct kptr_defer_bench_object *kptr_defer_bench_object_take(void) __ksym;
extern void kptr_defer_bench_object_drop(struct kptr_defer_bench_object *object) __ksym;
extern void kptr_defer_bench_object_floor(struct kptr_defer_bench_object *object) __ksym;
extern void kptr_defer_bench_object_in_order(struct kptr_defer_bench_object *object) __ksym;

extern struct kptr_defer_bench_task *
kptr_defer_bench_task_acquire(struct task_struct *task) __ksym;
extern void kptr_defer_bench_task_release(struct kptr_defer_bench_task *handle) __ksym;
extern void kptr_defer_bench_task_floor(struct kptr_defer_bench_task *handle) __ksym;

extern struct task_struct *
kptr_defer_bench_pool_task_acquire(struct task_struct *task) __ksym;
extern void kptr_defer_bench_pool_task_release(struct task_struct *task) __ksym;
extern bool kptr_defer_bench_pool_xchg_in(void) __ksym;
extern void kptr_defer_bench_pool_xchg_out(void) __ksym;

extern void kptr_defer_bench_task_work(struct kptr_defer_bench_object *object) __ksym;
extern struct kptr_defer_bench_rcu *kptr_defer_bench_rcu_take(void) __ksym;
extern void kptr_defer_bench_rcu_free(struct kptr_defer_bench_rcu *object) __ksym;

extern bool kptr_defer_bench_flood(u64 drops, bool queue_per_cpu) __ksym;
extern u64 kptr_defer_bench_flood_done(void) __ksym;
extern u64 kptr_defer_bench_ksize(const void *object__ign) __ksym;

extern struct bpf_cpumask *bpf_cpumask_create(void) __ksym;
extern void bpf_cpumask_release(struct bpf_cpumask *cpumask) __ksym;

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

/* Read and written as struct Measured by src/measure.rs. The one global variable. */
struct measured {
	u64 rounds;		/* to do */
	u64 runs;		/* of a program that measures, and those in NMI */
	u64 runs_in_nmi;
	u64 failed;		/* references that were not to be had */
	u64 first;		/* what the first round took, and the others together */
	u64 others;
	u64 in_round;		/* 1 while something is being given back */
	u64 raises;		/* interrupts that this asked for */
	u64 interrupts;		/* for irq_work, and what the longest took */
	u64 entered;
	u64 longest;
	u64 queue_per_cpu;	/* a flood's, in place of kptr_defer's */
	struct {
		u64 handle;
		u64 handle_content;
		u64 slot;
		u64 node;
	} memory;
};

struct measured measured = {};

static __always_inline void begin(void)
{
	__sync_fetch_and_add(&measured.runs, 1);
	if (kptr_defer_bench_in_nmi())
		__sync_fetch_and_add(&measured.runs_in_nmi, 1);
}

static __always_inline void record(u32 round, u64 took)
{
	if (round)
		measured.others += took;
	else
		measured.first = took;
}

/* In the NMIs of a perf event, and in process context. */
#define PROGRAMS(name)							\
SEC("perf_event")							\
int nmi_##name(void *ctx)						\
{									\
	return measure_##name();					\
}									\
									\
SEC("syscall")								\
int process_##name(void *ctx)						\
{									\
	return measure_##name();					\
}

/* @take: an expression that takes a reference; @statement is what is timed, with it as "it". */
#define MEASURE(name, type, take, statement)				\
static __always_inline int measure_##name(void)				\
{									\
	u32 round;							\
									\
	begin();							\
	bpf_for(round, 0, measured.rounds) {				\
		type it = take;						\
		u64 start;						\
									\
		if (it) {						\
			measured.in_round = 1;				\
			start = kptr_defer_bench_clock();		\
			statement;					\
			start = kptr_defer_bench_clock() - start;	\
			measured.in_round = 0;				\
			record(round, start);				\
		} else {						\
			measured.failed++;				\
		}							\
	}								\
	return 0;							\
}									\
PROGRAMS(name)

#define CURRENT bpf_get_current_task_btf()

/* The clock alone: all others take so much more than they cost. */
MEASURE(clock, bool, true, )

MEASURE(task, struct kptr_defer_task *, bpf_kptr_defer_task_acquire(CURRENT),
	bpf_kptr_defer_task_release(it))
MEASURE(task_floor, struct kptr_defer_bench_task *, kptr_defer_bench_task_acquire(CURRENT),
	kptr_defer_bench_task_floor(it))
MEASURE(task_plain, struct kptr_defer_bench_task *, kptr_defer_bench_task_acquire(CURRENT),
	kptr_defer_bench_task_release(it))

/* Many at once, so that the CPU keeps no more memory when the rest is given back. */
#define AT_ONCE 256U
#define TIMED 100U

struct many {
	struct kptr_defer_task __kptr *handle;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, AT_ONCE);
	__type(key, u32);
	__type(value, struct many);
} many_at_once SEC(".maps");

static __always_inline struct kptr_defer_task *exchange(u32 key, struct kptr_defer_task *handle)
{
	struct many *value = bpf_map_lookup_elem(&many_at_once, &key);

	return value ? bpf_kptr_xchg(&value->handle, handle) : handle;
}

static __always_inline struct kptr_defer_task *one_of_many(u32 round)
{
	struct kptr_defer_task *handle;
	u32 key;

	if (!round) {
		bpf_for(key, 0, AT_ONCE) {
			handle = bpf_kptr_defer_task_acquire(CURRENT);
			if (handle)
				handle = exchange(key, handle);
			if (handle)
				bpf_kptr_defer_task_release(handle);
		}
		bpf_for(key, TIMED, AT_ONCE) {
			handle = exchange(key, NULL);
			if (handle)
				bpf_kptr_defer_task_release(handle);
		}
	}
	return exchange(round, NULL);
}

MEASURE(task_of_many, struct kptr_defer_task *, one_of_many(round), bpf_kptr_defer_task_release(it))

MEASURE(object, struct kptr_defer_bench_object *, kptr_defer_bench_object_take(),
	kptr_defer_bench_object_drop(it))
MEASURE(object_floor, struct kptr_defer_bench_object *, kptr_defer_bench_object_take(),
	kptr_defer_bench_object_floor(it))
MEASURE(object_in_order, struct kptr_defer_bench_object *, kptr_defer_bench_object_take(),
	kptr_defer_bench_object_in_order(it))

/* Taking it, too. */
#define PAIR(acquire, release)						\
	({								\
		typeof(acquire(it)) held = acquire(it);			\
									\
		if (held)						\
			release(held);					\
		else							\
			measured.failed++;				\
	})

MEASURE(pair, struct task_struct *, CURRENT,
	PAIR(bpf_kptr_defer_task_acquire, bpf_kptr_defer_task_release))
MEASURE(pair_floor, struct task_struct *, CURRENT, PAIR(bpf_task_acquire, bpf_task_release))
MEASURE(pair_plain, struct task_struct *, CURRENT,
	PAIR(kptr_defer_bench_task_acquire, kptr_defer_bench_task_release))

/* An interrupt with nothing to do. */
MEASURE(interrupt, bool, true, kptr_defer_bench_interrupt())

/* The whole life of a reference that a program keeps in a map. */
struct kept {
	struct kptr_defer_task __kptr *handle;
	struct task_struct __kptr *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct kept);
} kept_references SEC(".maps");

static __always_inline struct kept *kept(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&kept_references, &zero);
}

#define CYCLE(field, acquire, xchg_in, xchg_out, release)		\
	({								\
		typeof(acquire(NULL)) held = acquire(CURRENT);		\
									\
		if (held && xchg_in)					\
			held = bpf_kptr_xchg(&it->field, held);		\
		if (held) {						\
			measured.failed++;				\
			release(held);					\
		}							\
		xchg_out;						\
		held = bpf_kptr_xchg(&it->field, NULL);			\
		if (held)						\
			release(held);					\
	})

MEASURE(cycle, struct kept *, kept(),
	CYCLE(handle, bpf_kptr_defer_task_acquire, true, , bpf_kptr_defer_task_release))
MEASURE(cycle_pool, struct kept *, kept(),
	CYCLE(task, kptr_defer_bench_pool_task_acquire, kptr_defer_bench_pool_xchg_in(),
	      kptr_defer_bench_pool_xchg_out(), kptr_defer_bench_pool_task_release))
MEASURE(cycle_guarded, struct kept *, kept(),
	CYCLE(task, bpf_task_acquire, true, , bpf_task_release))

/* What the kernel has. */
MEASURE(task_work, struct kptr_defer_bench_object *, kptr_defer_bench_object_take(),
	kptr_defer_bench_task_work(it))
MEASURE(kfree_rcu_nolock, struct kptr_defer_bench_rcu *, kptr_defer_bench_rcu_take(),
	kptr_defer_bench_rcu_free(it))
MEASURE(cpumask, struct bpf_cpumask *, bpf_cpumask_create(), bpf_cpumask_release(it))

/* Many at once. */
static __always_inline int measure_flood(void)
{
	begin();
	if (!kptr_defer_bench_flood(measured.rounds, measured.queue_per_cpu))
		__sync_fetch_and_add(&measured.failed, 1);
	return 0;
}

PROGRAMS(flood)

SEC("syscall")
int flood_done(void *ctx)
{
	measured.first = kptr_defer_bench_flood_done();
	return 0;
}

/* What a reference takes in memory. */
SEC("syscall")
int memory(void *ctx)
{
	struct kptr_defer_task *handle = bpf_kptr_defer_task_acquire(CURRENT);

	if (!handle)
		return -1;
	measured.memory.handle = kptr_defer_bench_ksize(handle);
	bpf_kptr_defer_task_release(handle);
	measured.memory.handle_content = bpf_core_type_size(struct kptr_defer_task);
	measured.memory.slot = bpf_core_type_size(struct kptr_defer_slot);
	measured.memory.node = bpf_core_type_size(struct llist_node);
	return 0;
}

/* An irq_work that nobody had queued yet: the CPU interrupts itself. */
SEC("tp_btf/ipi_send_cpu")
int irq_work_raised(void *ctx)
{
	if (measured.in_round)
		measured.raises++;
	return 0;
}

SEC("tp_btf/irq_work_entry")
int irq_work_begins(void *ctx)
{
	measured.entered = kptr_defer_bench_clock();
	return 0;
}

SEC("tp_btf/irq_work_exit")
int irq_work_ends(void *ctx)
{
	u64 took = kptr_defer_bench_clock() - measured.entered;

	measured.interrupts++;
	if (took > measured.longest)
		measured.longest = took;
	return 0;
}
