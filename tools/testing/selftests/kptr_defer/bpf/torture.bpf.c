// SPDX-License-Identifier: GPL-2.0
/*
 * Handles of all kinds, in maps of all kinds: in each NMI and elsewhere some are
 * taken, put where others are, and those given back.
 */
#include "common.bpf.h"

char _license[] SEC("license") = "GPL";

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

struct handles {
	struct kptr_defer_task __kptr *task;
	struct kptr_defer_cgroup __kptr *cgroup;
	struct kptr_defer_cred __kptr *cred;
	struct kptr_defer_file __kptr *file;
	struct kptr_defer_mm __kptr *mm;
};

#define SLOTS 64U

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct handles);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct handles);
} percpu_array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct handles);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct handles);
} lru_hash SEC(".maps");

/* A handle on @object goes into @handles, the one that was there is given back. */
#define REPLACE(handles, kind, object) do {				\
	struct kptr_defer_##kind *h = bpf_kptr_defer_##kind##_acquire(object); \
									\
	if (h)								\
		count(acquired);					\
	h = bpf_kptr_xchg(&(handles)->kind, h);				\
	if (h)								\
		bpf_kptr_defer_##kind##_release(h);			\
} while (0)

static __always_inline void replace_some(struct handles *handles)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 which = bpf_get_prandom_u32();
	const struct cred *cred;
	struct mm_struct *mm;
	struct file *file;

	if (which & 1)
		REPLACE(handles, task, task);
	if (which & 2)
		REPLACE(handles, cgroup, task->cgroups->dfl_cgrp);
	if (which & 4) {
		cred = bpf_kptr_defer_task_cred(task);
		if (cred)
			REPLACE(handles, cred, (struct cred *)cred);
	}
	mm = bpf_kptr_defer_current_mm();
	if (!mm)
		return;
	if (which & 8)
		REPLACE(handles, mm, mm);
	file = mm->exe_file;
	if (file && which & 16)
		REPLACE(handles, file, file);
}

#define REPLACE_IN(map) do {						\
	u32 key = bpf_get_prandom_u32() % SLOTS;			\
	struct handles *handles = bpf_map_lookup_elem(&map, &key);	\
									\
	if (handles)							\
		replace_some(handles);					\
} while (0)

static __always_inline void replace_in_all(void)
{
	REPLACE_IN(array);
	REPLACE_IN(percpu_array);
	REPLACE_IN(hash);
	REPLACE_IN(lru_hash);
}

SEC("fentry/kptr_defer_test_nmi_point")
int in_nmi(void *ctx)
{
	count_run();
	replace_in_all();
	return 0;
}

/* Elements come and go here only. */
SEC("syscall")
int in_process(void *ctx)
{
	struct handles none = {};
	u32 key, i;

	bpf_for(i, 0, 100) {
		key = bpf_get_prandom_u32() % SLOTS;
		bpf_map_update_elem(&hash, &key, &none, BPF_NOEXIST);
		bpf_map_update_elem(&lru_hash, &key, &none, BPF_NOEXIST);
		key = bpf_get_prandom_u32() % SLOTS;
		if (i % 4 == 0)
			bpf_map_delete_elem(&hash, &key);
		bpf_rcu_read_lock();
		replace_in_all();
		bpf_rcu_read_unlock();
	}
	return 0;
}
