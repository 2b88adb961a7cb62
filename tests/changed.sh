# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Negative controls: builds of the modules from sources with something wrong in them.

# build_changed <folder> <file> <edit>: in a copy of the sources, of which sed has edited one.
# shellcheck disable=SC2154 # set by scripts/common.sh
build_changed() {
	local copy=$1 file=$2 edit=$3
	mkdir "$copy"
	(cd "$top" && cp -r Kbuild Kbuild.requirements ./*.rs abstractions defer guard include objects \
		scripts shim "$copy") || return 1
	sed -i "$edit" "$copy/$file"
	! cmp -s "$top/$file" "$copy/$file" && "$copy/scripts/build"
}
