# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the patches do to the files of a kernel, in the folder that this is called in. Places are
# named by a line that stands there once, so that nothing of the kernel has to be kept here: where
# it does not, the patch has to be looked at again.

# have <file>: out of the kernel's source, unless it is here already.
# shellcheck disable=SC2154 # set by whoever reads this
have() {
	[ -e "$1" ] || [ -e "$source/$1" ] ||
		die "Linux $version has no $1" "What ${patch##*/} does to it has to be done elsewhere now."
	[ -e "$1" ] || install -D -m 644 "$source/$1" "$1"
}

# once <file> <line> [<how often>]
once() {
	local found
	found=$(grep -cxF -- "$2" "$1" || true)
	[ "$found" = "${3:-1}" ] ||
		die "$1 has $found lines like this, not ${3:-1}: $2" \
			"upstream/${patch##*/}/patch.sh takes another line that stands there once."
}

# before <file> <line>, after <file> <line>: puts standard input there.
before() { put "$1" "$2" 'printf "%s", text; print; next'; }
after() { put "$1" "$2" 'print; printf "%s", text; next'; }
put() {
	local text
	text=$(cat && echo .)
	have "$1"
	once "$1" "$2"
	anchor=$2 text=${text%.} awk 'BEGIN { text = ENVIRON["text"]; anchor = ENVIRON["anchor"] }
		$0 == anchor { '"$3"' } { print }' "$1" >"$1.new"
	mv "$1.new" "$1"
}

# replace <file> <line> <by> [<how often>]
replace() {
	have "$1"
	once "$1" "$2" "${4:-1}"
	anchor=$2 by=$3 awk '$0 == ENVIRON["anchor"] { $0 = ENVIRON["by"] } { print }' "$1" >"$1.new"
	mv "$1.new" "$1"
}

# new <file> <of the patch>, append <file> <of the patch>
new() { install -D -m 644 "$patch/$2" "$1"; }
append() { { echo && cat "$patch/$2"; } >>"$1"; }

# from_project <file> <of the project> <sed's command...>: each has something to change.
from_project() {
	local file=$1 command
	mkdir -p "$(dirname "$file")"
	cp "$top/$2" "$file"
	shift 2
	for command; do
		sed "$command" "$file" >"$file.new"
		! cmp -s "$file" "$file.new" || die "there is nothing in $file for this: $command" \
			"upstream/${patch##*/}/patch.sh has to follow what has changed in the project."
		mv "$file.new" "$file"
	done
}
