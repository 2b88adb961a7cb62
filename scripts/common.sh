# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every script here shares: messages, the cache folder, and steps that are
# either finished or not there at all.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${KPTR_DEFER_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or KPTR_DEFER_CACHE}/.cache}/kptr_defer}
case $cache in
/*) ;;
*) cache=$PWD/$cache ;;
esac
export top cache

say() { printf '  %-9s %s\n' "$1" "$2" >&2; }

die() {
	printf 'kptr_defer: %s\n' "$1" >&2
	shift
	[ $# -eq 0 ] || printf '            %s\n' "$@" >&2
	exit 1
}

# A short name for "made from exactly this".
key_of() { sha256sum | cut -c1-12; }

# attend <label> <pid>: shows that a background command is alive, until it ends with
# what is then the exit status.
attend() {
	local label=$1 pid=$2 start=$SECONDS next_sign=30 traps
	# A background command of a script does not get the terminal's Ctrl-C, and unshare
	# ignores gentler signals.
	traps=$(trap -p INT TERM HUP)
	trap 'kill -KILL -- "-$pid" 2>/dev/null || kill "$pid"; wait "$pid"; exit 130' INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		if [ -t 2 ]; then
			printf '\r  %-9s %s … %ds' "${label%% *}" "${label#* }" $((SECONDS - start)) >&2
		elif [ $((SECONDS - start)) -ge "$next_sign" ]; then
			say "${label%% *}" "${label#* } … $((SECONDS - start))s"
			next_sign=$((SECONDS - start + 30))
		fi
		sleep 0.2
	done
	[ ! -t 2 ] || printf '\r\033[K' >&2
	trap - INT TERM HUP
	eval "$traps"
	wait "$pid"
}

# logged <label> <log> <command...>: runs a command that takes a while, shows
# that it is alive, and shows the end of its log if it fails.
logged() {
	local label=$1 log=$2 start=$SECONDS
	shift 2
	mkdir -p "$(dirname "$log")"
	# In a process group of its own.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	set +m
	if attend "$label" $!; then
		say "${label%% *}" "${label#* } ($((SECONDS - start))s)"
		return 0
	fi
	printf -- '--- the end of %s\n' "$log" >&2
	tail -n 30 "$log" >&2
	printf -- '---\n' >&2
	return 1
}

# made_once <folder in the cache> <function>: calls the function with the folder,
# new and empty, unless it was finished before. It is made in its final place
# (kernel builds write down where they are); what says that it is finished is a
# file of its own, written last. Two callers wait for each other.
made() { [ -e "$1/.finished" ]; }
made_once() {
	local folder=$1
	shift
	! made "$folder" || return 0
	mkdir -p "$(dirname "$folder")"
	# shellcheck disable=SC2094 # nobody reads or writes it
	(
		# Whoever fails takes the lock's file away while others wait for it.
		while flock 9 || die "cannot lock $folder.lock" && ! [ "$folder.lock" -ef /proc/self/fd/9 ]; do
			exec 9>"$folder.lock"
		done
		! made "$folder" || exit 0
		# What has just been killed may still be writing.
		trap 'made "$folder" || rm -rf "$folder" || { sleep 1 && rm -rf "$folder"; }
			rm -f "$folder.lock"' EXIT
		trap 'exit 130' INT TERM
		rm -rf "$folder"
		mkdir "$folder"
		"$@" "$folder"
		: >"$folder/.finished"
	) 9>"$folder.lock"
}

# kernel_settings <folder>: what is peculiar to a kernel that scripts/kernel printed.
# shellcheck disable=SC2034 # for whoever calls it
kernel_settings() {
	arch=x86_64	# what it runs on
	make=()		# what every make for it has to be told
	memory=1G	# what a machine for it needs, and kernel arguments
	append=''
	if [ -e "$1/settings" ]; then
		# shellcheck source=/dev/null
		. "$1/settings"
	fi
}

# remembered <name> <command...>: what the command printed when it was last run, if the
# script and the package index are still the same, and the index is of today.
remembered() {
	local memory=$cache/remembered/$1 index=$cache/apt/refreshed made_from
	shift
	made_from=$({ cat "$0" "$index" && stat -c %Y "$index"; } 2>/dev/null | key_of)
	if [ -n "$(find "$index" -mmin -1440 2>/dev/null)" ] &&
		[ "$(head -n 1 "$memory" 2>/dev/null)" = "$made_from" ]; then
		tail -n +2 "$memory"
		return
	fi
	mkdir -p "$cache/remembered"
	"$@" >"$memory.$$" || { rm -f "$memory.$$"; return 1; }
	# The command may have brought a new index.
	made_from=$({ cat "$0" "$index" && stat -c %Y "$index"; } 2>/dev/null | key_of)
	{ echo "$made_from" && cat "$memory.$$"; } >"$memory.$$.new"
	mv "$memory.$$.new" "$memory"
	rm -f "$memory.$$"
	tail -n +2 "$memory"
}
