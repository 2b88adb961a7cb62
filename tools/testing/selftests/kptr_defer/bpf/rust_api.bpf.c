// SPDX-License-Identifier: GPL-2.0
/* kptr_defer_test_rust.ko and the sample in Rust, of which one is loaded: hence __weak. */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

extern int kptr_defer_test_rust_prepare(bool bare) __ksym __weak;
extern int kptr_defer_test_rust_drop(void) __ksym __weak;
extern int kptr_defer_test_rust_no_memory(void) __ksym __weak;

struct sample_buffer {
};

extern struct sample_buffer *bpf_sample_buffer_create(size_t size) __ksym __weak;
extern struct sample_buffer *bpf_sample_buffer_acquire(struct sample_buffer *buffer) __ksym __weak;
extern void bpf_sample_buffer_release(struct sample_buffer *buffer) __ksym __weak;

SEC("syscall")
int prepare(void *ctx)
{
	return kptr_defer_test_rust_prepare(false);
}

SEC("syscall")
int prepare_bare(void *ctx)
{
	return kptr_defer_test_rust_prepare(true);
}

SEC("syscall")
int drop_here(void *ctx)
{
	return kptr_defer_test_rust_drop();
}

static __always_inline int drop(void)
{
	count_run();
	if (!kptr_defer_test_rust_drop())
		count(released_in_nmi);
	return 0;
}

IN_NMI(drop, drop())

SEC("syscall")
int no_memory(void *ctx)
{
	return kptr_defer_test_rust_no_memory();
}

SEC("syscall")
int references(void *ctx)
{
	return bpf_get_current_task_btf()->usage.refs.counter;
}

static __always_inline int count_in_nmi(void)
{
	if (kptr_defer_test_in_nmi())
		count(put_in_nmi);
	return 0;
}

/* What drops take that must not run in NMI. */
SEC("fentry/mutex_lock")
int on_mutex_lock(void *ctx)
{
	return count_in_nmi();
}

/* The same with lockdep. */
SEC("fentry/mutex_lock_nested")
int on_mutex_lock_nested(void *ctx)
{
	return count_in_nmi();
}

struct buffer_value {
	struct sample_buffer __kptr *buffer;
};

#define SLOTS 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct buffer_value);
} buffers SEC(".maps");

static __always_inline struct sample_buffer *exchange(u32 key, struct sample_buffer *buffer)
{
	struct buffer_value *value = bpf_map_lookup_elem(&buffers, &key);

	return value ? bpf_kptr_xchg(&value->buffer, buffer) : buffer;
}

SEC("syscall")
int create_buffers(void *ctx)
{
	struct sample_buffer *buffer;
	u32 key;

	bpf_for(key, 0, SLOTS) {
		buffer = bpf_sample_buffer_create(key + 1);
		if (!buffer)
			continue;
		count(acquired);
		buffer = exchange(key, buffer);
		if (buffer)
			bpf_sample_buffer_release(buffer);
	}
	return 0;
}

/* The odd ones stay in the map. */
static __always_inline int release_buffers(void)
{
	struct sample_buffer *buffer;
	u32 key;

	count_run();
	bpf_for(key, 0, SLOTS / 2) {
		buffer = exchange(2 * key, NULL);
		if (!buffer)
			continue;
		bpf_sample_buffer_release(bpf_sample_buffer_acquire(buffer));
		bpf_sample_buffer_release(buffer);
		count(released_in_nmi);
	}
	return 0;
}

IN_NMI(release_buffers, release_buffers())
