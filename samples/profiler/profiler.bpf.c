// SPDX-License-Identifier: GPL-2.0
/*
 * sample() samples whatever task runs, and remembers the last few tasks of each
 * CPU and of each command. Whoever drops off the end is given back right there,
 * in the NMI: by then the task has often exited, and the reference was the last
 * one.
 *
 * look() tells what the tasks of a command are doing, or that they have exited.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "kptr_defer.bpf.h"

char LICENSE[] SEC("license") = "GPL";

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

#define TASK_COMM_LEN 16
#define REMEMBERED 4
#define COMMANDS 4096

/* Different tasks, the one that was seen last comes first. */
struct recent {
	struct kptr_defer_task __kptr *task[REMEMBERED];
};

struct command {
	__u64 samples;
	struct recent recent;
};

struct command_name {
	char comm[TASK_COMM_LEN];
};

/* The same order as in sampling.rs. */
enum counted {
	COUNT_SAMPLES,
	COUNT_WITHOUT_COMMAND,
	COUNT_ACQUIRED,
	COUNT_NOT_ACQUIRED,
	COUNT_DROPS,
	COUNT_LAST_REFERENCES,
	NR_COUNTS,
};

/* What sampling.rs asks and is told, in this form. */
struct look {
	struct command_name name;
	/* Handles that had to be given back for it. */
	__u32 dropped;
	struct seen {
		__u32 pid;	/* 0: there is no task */
		__u32 tgid;
		__u32 state;
		__u32 exit_state;
	} tasks[REMEMBERED];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recent);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, COMMANDS);
	__type(key, struct command_name);
	__type(value, struct command);
} commands SEC(".maps");

/*
 * Plain additions will do: the program is not run on a CPU where it is running
 * already.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NR_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static void count(enum counted what)
{
	__u32 key = what;
	__u64 *n = bpf_map_lookup_elem(&counts, &key);

	if (n)
		*n += 1;
}

static __always_inline void give_back(struct kptr_defer_task *handle)
{
	struct task_struct *task = bpf_kptr_defer_task_get(handle);

	/* It has exited, been waited for, and outlived by an RCU grace period. */
	if (task && task->usage.refs.counter == 1)
		count(COUNT_LAST_REFERENCES);
	bpf_kptr_defer_task_release(handle);
	count(COUNT_DROPS);
}

/*
 * Puts the task first. Each other one takes the place of the one before it; who
 * has to go is the task's own older handle, or else whoever was last.
 */
static __always_inline void remember(struct recent *recent,
				     struct task_struct *task)
{
	struct kptr_defer_task *handle;
	int i;

	handle = bpf_kptr_defer_task_acquire(task);
	if (!handle) {
		count(COUNT_NOT_ACQUIRED);
		return;
	}
	count(COUNT_ACQUIRED);

#pragma clang loop unroll(full)
	for (i = 0; i < REMEMBERED; i++) {
		handle = bpf_kptr_xchg(&recent->task[i], handle);
		if (!handle)
			return;
		if (bpf_kptr_defer_task_get(handle) == task)
			break;
	}
	give_back(handle);
}

static __always_inline struct command *command_of_current(void)
{
	struct command_name name = {};
	struct command fresh = {};
	struct command *command;

	bpf_get_current_comm(name.comm, sizeof(name.comm));
	command = bpf_map_lookup_elem(&commands, &name);
	if (command)
		return command;
	/* May fail when the table is full, or when an NMI hit its lock. */
	bpf_map_update_elem(&commands, &name, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&commands, &name);
}

SEC("perf_event")
int sample(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct recent *recent;
	struct command *command;
	__u32 zero = 0;

	/* The idle task. */
	if (!task->pid)
		return 0;
	count(COUNT_SAMPLES);

	recent = bpf_map_lookup_elem(&cpus, &zero);
	if (recent)
		remember(recent, task);

	command = command_of_current();
	if (command) {
		__sync_fetch_and_add(&command->samples, 1);
		remember(&command->recent, task);
	} else {
		count(COUNT_WITHOUT_COMMAND);
	}
	return 0;
}

/*
 * A handle in a map is not to be trusted, an NMI may give it back at any time:
 * so it is taken out, and put back afterwards.
 */
static __always_inline void look_at(struct kptr_defer_task __kptr **place,
				    struct seen *seen, __u32 *dropped)
{
	struct kptr_defer_task *handle = bpf_kptr_xchg(place, NULL);
	struct task_struct *task;

	if (!handle)
		return;
	bpf_rcu_read_lock();
	task = bpf_kptr_defer_task_get(handle);
	seen->pid = task->pid;
	seen->tgid = task->tgid;
	seen->state = task->__state;
	seen->exit_state = task->exit_state;
	bpf_rcu_read_unlock();

	handle = bpf_kptr_xchg(place, handle);
	/* An NMI has put a handle there meanwhile, which is the newer one. */
	if (handle)
		handle = bpf_kptr_xchg(place, handle);
	if (handle) {
		bpf_kptr_defer_task_release(handle);
		*dropped += 1;
	}
}

SEC("syscall")
int look(struct look *look)
{
	struct command_name name = look->name;
	struct command *command;
	int i;

	command = bpf_map_lookup_elem(&commands, &name);
	if (!command)
		return 0;
#pragma clang loop unroll(full)
	for (i = 0; i < REMEMBERED; i++) {
		struct seen seen = {};
		__u32 dropped = 0;

		look_at(&command->recent.task[i], &seen, &dropped);
		look->tasks[i] = seen;
		look->dropped += dropped;
	}
	return 0;
}
