// SPDX-License-Identifier: GPL-2.0
/* Tells when a livepatch is about to be loaded. */

#include <linux/module.h>
#include <linux/notifier.h>

#include "shim.h"

/* At this point its module has not yet asked ftrace for any function. */
static int kptr_defer_guard_module_event(struct notifier_block *nb, unsigned long event,
					 void *module)
{
	struct module *mod = module;

	if (event == MODULE_STATE_COMING && is_livepatch_module(mod))
		kptr_defer_guard_rust_livepatch_coming(mod->name);
	return NOTIFY_OK;
}

static struct notifier_block kptr_defer_guard_modules = {
	.notifier_call = kptr_defer_guard_module_event,
};

int kptr_defer_guard_watch_livepatches(void)
{
	return register_module_notifier(&kptr_defer_guard_modules);
}

void kptr_defer_guard_stop_watching(void)
{
	unregister_module_notifier(&kptr_defer_guard_modules);
}
