# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # for upstream/series and upstream/kernel

builds=(rust/kernel.o)
config=(CONFIG_RUST_IRQ_WORK_KUNIT_TEST=y)

edit() {
	before rust/bindings/bindings_helper.h '#include <linux/jiffies.h>' <<<'#include <linux/irq_work.h>'
	before rust/helpers/helpers.c '#include "jump_label.c"' <<<'#include "irq_work.c"'
	before rust/kernel/lib.rs 'pub mod jump_label;' <<<'pub mod irq_work;'
	before rust/kernel/Kconfig.test endif <"$patch/Kconfig"
	new rust/helpers/irq_work.c helpers.c
	from_project rust/kernel/irq_work.rs abstractions/irq_work.rs \
		'/^use crate::bindings;/d' \
		's/^use kernel::{/use crate::{\n    bindings,/' \
		's/init_irq_work_in_interrupt/init_irq_work_hard/' \
		"/^\/\/\/ \`\`\`ignore/r $patch/example-imports" \
		's/^\/\/\/ ```ignore/\/\/\/ ```/'
	append rust/kernel/irq_work.rs tests.rs
}
