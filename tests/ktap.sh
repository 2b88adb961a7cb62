# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# KTAP for test scripts in bash: plan, then one "check" for each test.

tests=0

plan() { printf 'TAP version 13\n1..%s\n' "$1"; }

# check <name> <command...>: one test. What the command printed is shown if it failed.
check() {
	local name=$1 said
	shift
	tests=$((tests + 1))
	if said=$("$@" 2>&1); then
		printf 'ok %s - %s\n' "$tests" "$name"
	else
		[ -z "$said" ] || printf '%s\n' "$said" | sed 's/^/# /'
		printf 'not ok %s - %s\n' "$tests" "$name"
		failures=$((${failures:-0} + 1))
	fi
}

# The last thing that a test script calls.
finish() { [ "${failures:-0}" = 0 ]; }
