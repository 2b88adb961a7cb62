// SPDX-License-Identifier: GPL-2.0
/* The kptr type of samples/c. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

struct kptr_sample_note {
	refcount_t refs;
} __attribute__((preserve_access_index));

extern struct kptr_sample_note *bpf_kptr_sample_note_make(void) __ksym;
extern struct kptr_sample_note *bpf_kptr_sample_note_get(struct kptr_sample_note *note) __ksym;
extern void bpf_kptr_sample_note_put(struct kptr_sample_note *note) __ksym;

struct note_value {
	struct kptr_sample_note __kptr *note;
};

#define SLOTS 250

struct slots {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct note_value);
};

struct slots in_nmi_last SEC(".maps");
struct slots elsewhere_last SEC(".maps");

static __always_inline struct kptr_sample_note *
exchange(struct slots *map, u32 key, struct kptr_sample_note *note)
{
	struct note_value *value = bpf_map_lookup_elem(map, &key);

	return value ? bpf_kptr_xchg(&value->note, note) : note;
}

static __always_inline void put(struct kptr_sample_note *note)
{
	if (!note)
		return;
	count(released);
	if (kptr_defer_test_in_nmi())
		count(released_in_nmi);
	bpf_kptr_sample_note_put(note);
}

SEC("syscall")
int fill(void *ctx)
{
	struct kptr_sample_note *note;
	u32 key;

	bpf_for(key, 0, SLOTS) {
		note = bpf_kptr_sample_note_make();
		if (!note)
			continue;
		count(acquired);
		put(exchange(&in_nmi_last, key, note));
	}
	return 0;
}

/* Of every second note another reference stays behind, for the end of the map. */
SEC("fentry/kptr_defer_test_nmi_point")
int empty(void *ctx)
{
	struct kptr_sample_note *note;
	u32 key;

	count_run();
	bpf_for(key, 0, SLOTS) {
		note = exchange(&in_nmi_last, key, NULL);
		if (!note)
			continue;
		if (key % 2)
			put(exchange(&elsewhere_last, key, bpf_kptr_sample_note_get(note)));
		else
			count(last_in_nmi);
		put(note);
	}
	return 0;
}
