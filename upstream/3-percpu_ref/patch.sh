# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # for upstream/series and upstream/kernel

builds=(lib/percpu-refcount.o)
config=()

edit() {
	before include/linux/percpu-refcount.h \
		' * percpu_ref_is_dying - test whether a percpu refcount is dying or dead' <"$patch/put"
}
