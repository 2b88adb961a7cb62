// SPDX-License-Identifier: GPL-2.0
/* The kptr type and its kfuncs, for BTF. All they do is in sample.rs. */

#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/module.h>

struct sample_buffer {
};

struct sample_buffer *rust_sample_buffer_create(size_t size);
struct sample_buffer *rust_sample_buffer_acquire(struct sample_buffer *buffer);
void rust_sample_buffer_release(void *buffer);
int sample_register_kfuncs(void);

__bpf_kfunc_start_defs();

/* For sleepable programs. */
__bpf_kfunc struct sample_buffer *bpf_sample_buffer_create(size_t size)
{
	return rust_sample_buffer_create(size);
}

__bpf_kfunc struct sample_buffer *bpf_sample_buffer_acquire(struct sample_buffer *buffer)
{
	return rust_sample_buffer_acquire(buffer);
}

__bpf_kfunc void bpf_sample_buffer_release(struct sample_buffer *buffer)
{
	rust_sample_buffer_release(buffer);
}

__bpf_kfunc void bpf_sample_buffer_release_dtor(void *buffer)
{
	rust_sample_buffer_release(buffer);
}

CFI_NOSEAL(bpf_sample_buffer_release_dtor);

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(kfuncs)
BTF_ID_FLAGS(func, bpf_sample_buffer_create, KF_ACQUIRE | KF_RET_NULL | KF_SLEEPABLE)
BTF_ID_FLAGS(func, bpf_sample_buffer_acquire, KF_ACQUIRE)
BTF_ID_FLAGS(func, bpf_sample_buffer_release, KF_RELEASE)
BTF_KFUNCS_END(kfuncs)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &kfuncs,
};

BTF_ID_LIST(dtor_ids)
BTF_ID(struct, sample_buffer)
BTF_ID(func, bpf_sample_buffer_release_dtor)

int sample_register_kfuncs(void)
{
	const struct btf_id_dtor_kfunc dtor = {
		.btf_id = dtor_ids[0],
		.kfunc_btf_id = dtor_ids[1],
	};

	/* Tracing covers perf_event. */
	return register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING, &kfunc_set) ?:
	       register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &kfunc_set) ?:
	       register_btf_id_dtor_kfuncs(&dtor, 1, THIS_MODULE);
}
