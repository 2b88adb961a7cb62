/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Giving back a reference from any context, NMI included.
 */
#ifndef _LINUX_BPF_LAST_REF_H
#define _LINUX_BPF_LAST_REF_H

struct cgroup;
struct cgroup_subsys_state;
struct task_struct;

void bpf_put_task(struct task_struct *task);
void bpf_put_css(struct cgroup_subsys_state *css);
void bpf_put_cgroup(struct cgroup *cgrp);

#endif /* _LINUX_BPF_LAST_REF_H */
