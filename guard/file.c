// SPDX-License-Identifier: GPL-2.0
/* The debugfs file, with an owner: see ../shim/stats.c. */

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "shim.h"

MODULE_VERSION(KPTR_DEFER_VERSION);

static int kptr_defer_guard_show(struct seq_file *m, void *unused)
{
	kptr_defer_guard_rust_show(m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(kptr_defer_guard);

/* In the folder of kptr_defer, which stays as long as this module. */
struct dentry *kptr_defer_guard_file_create(void)
{
	struct dentry *dir = debugfs_lookup("kptr_defer", NULL);
	struct dentry *file;

	if (IS_ERR_OR_NULL(dir))
		return NULL;
	file = debugfs_create_file("guard", 0444, dir, NULL, &kptr_defer_guard_fops);
	dput(dir);
	return file;
}

void kptr_defer_guard_file_remove(struct dentry *file)
{
	debugfs_remove(file);
}
