# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Kernels that are made from another one: in a copy of it only what is new has to be compiled.
# For scripts that say what is new; they set base= to what scripts/kernel prints, and kernel= to
# the folder of the new one, while they make it.

# Source and build folder are seen where those of the other kernel are: their paths are
# part of every command that kbuild has noted down, and a new command means to build anew.
# shellcheck disable=SC2154 # set by whoever reads this, and by scripts/common.sh
in_copy() {
	local base_source
	base_source=$(realpath "$base/source")
	TOOLCHAIN_OVER="$kernel/tree=$base_source $kernel/build=$base/build" \
		"$top/scripts/toolchain" make -s -C "$base_source" O="$base/build" -j"$(nproc)" \
		KBUILD_BUILD_TIMESTAMP=0 RUSTC="$top/scripts/rustc-for-kernel" "${make[@]}" "$@"
}

# begin_copy <name>: tree/, of hard links, and build/. Its release ends in -<name>.
begin_copy() {
	local name=$1 old
	# Each takes more than a gigabyte: the one that this checkout has had before. First
	# of all what says that it is finished.
	mkdir -p "$top/build"
	old=$(readlink "$top/build/$name-kernel" || true)
	if [ -n "$old" ] && [ "$old" != "$kernel" ]; then
		rm -f "$old/.finished"
		rm -rf "$old"
	fi
	ln -sfn "$kernel" "$top/build/$name-kernel"
	cp -al "$(realpath "$base/source")" "$kernel/tree"
	cp -a "$base/build" "$kernel/build"
	sed -i "s/^CONFIG_LOCALVERSION=\"[^\"]*/&-$name/" "$kernel/build/.config"
}

# configure_copy <CONFIG_…=…>...
configure_copy() {
	local option
	for option; do
		sed -i "/^\(# \)\?${option%%=*}[= ]/d" "$kernel/build/.config"
	done
	printf '%s\n' "$@" >>"$kernel/build/.config"
	in_copy olddefconfig
}

# finish_copy: what scripts/kernel says that there is.
finish_copy() {
	cp "$kernel/build/$(in_copy image_name)" "$kernel/vmlinuz"
	cp "$kernel/build/.config" "$kernel/config"
	cp "$kernel/build/include/config/kernel.release" "$kernel/release"
	[ ! -e "$base/settings" ] || cp "$base/settings" "$kernel"
	ln -s "$kernel/tree" "$kernel/source"
	# From now on it stands by itself.
	ln -sfn "$kernel/tree" "$kernel/build/source"
	sed -i "s|$base/build|$kernel/build|; s|$(realpath "$base/source")|$kernel/tree|" \
		"$kernel/build/Makefile"
}
