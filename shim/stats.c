// SPDX-License-Identifier: GPL-2.0
/*
 * The debugfs file. It has to pin the module while it is open, which takes an
 * owner: the files of the kernel crate have none, and closing one after the
 * module is gone reads what was in the module.
 */

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "shim.h"

static int kptr_defer_stats_show(struct seq_file *m, void *unused)
{
	kptr_defer_rust_stats_show(m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(kptr_defer_stats);

struct dentry *kptr_defer_stats_file_create(void)
{
	struct dentry *dir = debugfs_create_dir("kptr_defer", NULL);

	debugfs_create_file("stats", 0444, dir, NULL, &kptr_defer_stats_fops);
	return dir;
}

void kptr_defer_stats_file_remove(struct dentry *dir)
{
	debugfs_remove(dir);
}
