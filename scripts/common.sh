# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every script here shares: messages, the cache folder, and steps that are
# either finished or not there at all.

set -euo pipefail

# All that is said is said in two columns. On a terminal, what is too long for the second goes on
# below; what went wrong or well has a colour, unless somebody wants none (NO_COLOR).
shopt -s checkwinsize
# Bash looks how wide it is after a command that is not its own.
[ ! -t 2 ] || (:)
on_terminal() { [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]; }
colourful() { [ -t "$1" ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${NO_COLOR:-}" ]; }
width() { echo $((${COLUMNS:-0} >= 40 ? COLUMNS : 80)); }

# folded <text> <width> <what the further lines begin with>
folded() { fold -s -w "$2" <<<"$1" | sed "s/ *\$//; 2,\$s/^/$3/"; }

# Passes on lines; on a terminal none is longer than that is wide, but those for programs.
fitted() {
	local text indent
	if [ ! -t 1 ]; then
		exec cat
	fi
	while IFS= read -r text; do
		if [ ${#text} -le "$(width)" ] || [[ $text =~ ^[a-z]+:\ [a-z_]+= ]]; then
			printf '%s\n' "$text"
		else
			indent="${text%%[! ]*}    "
			folded "$text" $(($(width) - ${#indent})) "$indent"
		fi
	done
}

# tell <first column> <second> [colour]
tell() {
	local first=$1 second=$2
	if on_terminal; then
		second=$(folded "$second" $(($(width) - 12)) '            ')
		[ -z "${3:-}" ] || ! colourful 2 || first=$'\e['"$3m$first"$'\e[m'
	fi
	printf '%-12s%s\n' "$first" "$second" >&2
}

declare -A colours=([ok]=32 [FAILED]=31 [WARNING]=33)
say() { tell "$(printf '  %-9s ' "$1")" "$2" "${colours[$1]:-}"; }

# passing <label> <text>: for a terminal, a line in whose place comes the next one.
passing() {
	local text
	printf -v text '  %-9s %s' "$@"
	printf '\r\033[K%s' "${text:0:$(width) - 1}" >&2
}
passed_by() { ! on_terminal || printf '\r\033[K' >&2; }

warn() { say WARNING "$1"; }

# complain <what is wrong> [what to do...]
complain() {
	local more
	tell 'kptr_defer: ' "$1" 31
	for more in "${@:2}"; do
		tell '' "$more"
	done
}

die() {
	complain "$@"
	exit 1
}

# usage <what is wrong>: shows how the script is called.
usage() {
	complain "$1"
	sed -n '3,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

# has_value <option> [value...]
has_value() { [ $# -gt 1 ] || usage "$1 takes a value"; }

# number <name> <value> <least> <most>
number() {
	{ [[ $2 =~ ^[0-9]{1,9}$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; } ||
		die "$1=$2 is no number from $3 to $4" "Leave it out for the default."
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache=${KPTR_DEFER_CACHE:-${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}}
[ -n "$cache" ] || die "there is no HOME to keep tool chain and kernels in" \
	"Say where: make KPTR_DEFER_CACHE=<folder> …"
cache=${KPTR_DEFER_CACHE:-$cache/kptr_defer}
case $cache in
/*) ;;
*) cache=$PWD/$cache ;;
esac
export top cache
case $top$cache in
*[[:space:]:]*) die "the kernel's build takes no folder with a space or a colon in its name" \
	"The checkout is $top," "the cache $cache: KPTR_DEFER_CACHE= names another one." ;;
esac

# in_cache [folder]: is there from now on.
in_cache() {
	local folder=$cache${1:+/$1} said
	said=$(mkdir -p "$folder" 2>&1) || die "cannot make $folder: ${said##*: }" \
		"Another folder for tool chain and kernels:" "make KPTR_DEFER_CACHE=<folder> …"
}

# full <folder>: says so if the disk is.
full() {
	local left
	left=$(df -k --output=avail "$1" 2>/dev/null | tail -n 1)
	[ "${left:-50000}" -ge 50000 ] || complain "the disk is full: $left kB are left in $1" \
		"The tool chain takes 2.5 GB, a kernel and its source 2 GB. For" \
		"another disk: make KPTR_DEFER_CACHE=<folder> …"
}

# take_lock <descriptor> <file>
take_lock() {
	flock "$1" || die "cannot lock $2" "It takes a file system that has locks. For tool chain and" \
		"kernels: make KPTR_DEFER_CACHE=<folder> …"
}

# For those who boot a machine.
check_accelerator() {
	case ${KPTR_DEFER_ACCEL:-} in
	'' | tcg | kvm) ;;
	*) die "KPTR_DEFER_ACCEL=$KPTR_DEFER_ACCEL is neither tcg nor kvm" "Leave it out for what works here." ;;
	esac
}
check_terminal() {
	{ [ -t 0 ] && [ -t 1 ]; } || die "a shell in the machine needs a terminal" \
		"For a single command: scripts/vm -- <command>"
}

# A short name for "made from exactly this".
key_of() { sha256sum | cut -c1-12; }

# attend <label> <pid>: shows that a background command is alive, until it ends with
# what is then the exit status.
attend() {
	local label=$1 pid=$2 start=$SECONDS next_sign=30 traps shown
	# A background command of a script does not get the terminal's Ctrl-C, and unshare
	# ignores gentler signals.
	traps=$(trap -p INT TERM HUP)
	trap 'kill -KILL -- "-$pid" 2>/dev/null || kill "$pid"; wait "$pid"; exit 130' INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		if on_terminal; then
			shown=${label#* }
			passing "${label%% *}" "${shown:0:$(width) - 20} … $((SECONDS - start))s"
		elif [ $((SECONDS - start)) -ge "$next_sign" ]; then
			say "${label%% *}" "${label#* } … $((SECONDS - start))s"
			next_sign=$((SECONDS - start + 30))
		fi
		sleep 0.2
	done
	passed_by
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
	# For the cache made_once says it.
	[ "${log#"$top"/}" = "$log" ] || full "$top"
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
	in_cache
	# shellcheck disable=SC2094 # nobody reads or writes it
	(
		# Whoever fails takes the lock's file away while others wait for it.
		while take_lock 9 "$folder.lock" && ! [ "$folder.lock" -ef /proc/self/fd/9 ]; do
			exec 9>"$folder.lock"
		done
		! made "$folder" || exit 0
		# What has just been killed may still be writing.
		trap 'made "$folder" || full "$cache"
			made "$folder" || rm -rf "$folder" || { sleep 1 && rm -rf "$folder"; }
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
	in_cache remembered
	"$@" >"$memory.$$" || { rm -f "$memory.$$"; return 1; }
	# The command may have brought a new index.
	made_from=$({ cat "$0" "$index" && stat -c %Y "$index"; } 2>/dev/null | key_of)
	{ echo "$made_from" && cat "$memory.$$"; } >"$memory.$$.new"
	mv "$memory.$$.new" "$memory"
	rm -f "$memory.$$"
	tail -n +2 "$memory"
}
