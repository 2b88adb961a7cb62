// SPDX-License-Identifier: GPL-2.0
/*
 * Drops in NMI, of one kind that may sleep and one that does not, and programs on
 * the tracepoints that tell of them.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <kptr_defer.bpf.h>
#include "in_nmi.bpf.h"

char _license[] SEC("license") = "GPL";

#ifndef KPTR_DEFER_BUILT_IN
struct kptr_defer_slot {
	struct llist_node node;
} __attribute__((preserve_access_index));
#endif

/* A handle is more than programs need to know. */
struct kptr_defer_task___whole {
	struct kptr_defer_slot slot;
} __attribute__((preserve_access_index));

/* in_nmi() of the kernel, from kptr_defer_test_nmi.ko. */
extern bool kptr_defer_test_in_nmi(void) __ksym;

/* All of .bss. Read as struct Seen by src/tracepoints.rs. */
struct seen {
	__u64 nmi;			/* runs of an NMI program in NMI */
	__u64 not_nmi;			/* and elsewhere */
	__u64 tasks, mms;		/* handles given back there */
	__u64 drop_deferred;		/* events, and those of them */
	__u64 other_slot;		/* that were not about the handle just given back */
	__u64 other_context;
	__u64 no_dtor;
	__u64 drain;			/* events, and who drained */
	__u64 by_irq_work, by_workqueue, by_sleepable;
	__u64 drain_in_nmi;
	__u64 drops;			/* all of them together */
	__u64 duration_ns;
} seen = {};

#define count(what) ((void)__sync_fetch_and_add(&seen.what, 1))

/* The slot of the handle that the program on this CPU is giving back. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} given_back SEC(".maps");

static __always_inline u64 *slot_here(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&given_back, &zero);
}

static __always_inline void set_slot(void *handle)
{
	u64 *slot = slot_here();

	if (slot)
		*slot = (u64)handle + bpf_core_field_offset(struct kptr_defer_task___whole, slot);
}

static __always_inline int give_back(void)
{
	struct kptr_defer_task *task;
	struct kptr_defer_mm *mm = NULL;
	struct mm_struct *current_mm;

	if (kptr_defer_test_in_nmi())
		count(nmi);
	else
		count(not_nmi);
	task = bpf_kptr_defer_task_acquire(bpf_get_current_task_btf());
	if (task) {
		set_slot(task);
		count(tasks);
		bpf_kptr_defer_task_release(task);
	}
	current_mm = bpf_kptr_defer_current_mm();
	if (current_mm)
		mm = bpf_kptr_defer_mm_acquire(current_mm);
	if (mm) {
		set_slot(mm);
		count(mms);
		bpf_kptr_defer_mm_release(mm);
	}
	return 0;
}

IN_NMI(give_back, give_back())

SEC("tp_btf/drop_deferred")
int BPF_PROG(on_drop_deferred, const struct kptr_defer_slot *slot, u64 dtor)
{
	u64 *expected = slot_here();

	count(drop_deferred);
	if (!expected || *expected != (u64)slot)
		count(other_slot);
	if (!kptr_defer_test_in_nmi())
		count(other_context);
	if (!dtor)
		count(no_dtor);
	return 0;
}

SEC("tp_btf/drain")
int BPF_PROG(on_drain, const char *by, u64 drops, u64 duration_ns)
{
	char name[16] = {};

	count(drain);
	bpf_probe_read_kernel_str(name, sizeof(name), by);
	if (!bpf_strncmp(name, sizeof(name), "irq_work"))
		count(by_irq_work);
	else if (!bpf_strncmp(name, sizeof(name), "workqueue"))
		count(by_workqueue);
	else if (!bpf_strncmp(name, sizeof(name), "sleepable"))
		count(by_sleepable);
	if (kptr_defer_test_in_nmi())
		count(drain_in_nmi);
	__sync_fetch_and_add(&seen.drops, drops);
	__sync_fetch_and_add(&seen.duration_ns, duration_ns);
	return 0;
}
