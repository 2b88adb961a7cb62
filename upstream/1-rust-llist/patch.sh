# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # for upstream/series and upstream/kernel

builds=(rust/kernel.o)
config=(CONFIG_RUST_KUNIT_TESTS=y CONFIG_RUST_LLIST_KUNIT_TEST=y CONFIG_RUST_KERNEL_DOCTESTS=y)

edit() {
	before rust/bindings/bindings_helper.h '#include <linux/mdio.h>' <<<'#include <linux/llist.h>'
	before rust/helpers/helpers.c '#include "maple_tree.c"' <<<'#include "llist.c"'
	before rust/kernel/lib.rs 'pub mod maple_tree;' <<<'pub mod llist;'
	before rust/kernel/Kconfig.test endif <"$patch/Kconfig"
	new rust/helpers/llist.c helpers.c
	from_project rust/kernel/llist.rs abstractions/llist.rs \
		'/^use kernel::types::Opaque;/d' \
		's/^use crate::bindings;/use crate::{\n    bindings,\n    types::Opaque, \/\/\n};/' \
		"/^\/\/! \`\`\`ignore/r $patch/example-imports" \
		's/^\/\/! ```ignore/\/\/! ```/'
	append rust/kernel/llist.rs tests.rs
}
