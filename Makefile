# SPDX-License-Identifier: GPL-2.0

# What the kernel's build sees of this folder is Kbuild; this file is for people.
MAKEFLAGS += --no-print-directory
Q := $(if $(V),,@)

export KPTR_DEFER_CACHE KPTR_DEFER_MIRROR V

.PHONY: all modules install deb rust-metadata demo check selftest bench speed watch vm sweep torture model audit clippy rustdoc rust-analyzer rustfmt upstream upstream-test clean distclean help

all: modules

## Building for a kernel
modules:	## kptr_defer.ko, kptr_defer_guard.ko, for KDIR= or KERNEL=
	$(Q)scripts/build

install:	## installs them where modprobe finds them, as root
	$(Q)scripts/build install

deb:	## a Debian package: DKMS builds them for every kernel
	$(Q)scripts/build deb

rust-metadata:	## what Debian's headers lack for building Rust modules
	$(Q)scripts/build rust-metadata

## Seeing it work, in a virtual machine
demo:	## the hole and the guard; a profiler that drops in NMI
	$(Q)scripts/in-vm demo

watch:	## what the modules count, live, until Ctrl-C or TIMES= times
	$(Q)scripts/in-vm watch

vm:	## a shell in the machine, with the module loaded
	$(Q)scripts/in-vm shell

selftest:	## the kselftest
	$(Q)scripts/in-vm selftest

bench:	## what it costs, in instructions: Documentation/cost.md
	$(Q)scripts/in-vm bench $(if $(KEEP),,Documentation)

speed:	## how long the demo takes, from nothing and again
	$(Q)bench/speed

## Checking it
check:	## every test there is
	$(Q)scripts/check

sweep:	## an NMI at every instruction of a drop, an acquire, a drain
	$(Q)tests/sweep/run

torture:	## everything at once and at random, for MINUTES= (1)
	$(Q)scripts/in-vm torture

model:	## the queue and the borrowed node, under all interleavings
	$(Q)tests/model/run

audit:	## what the built modules can call in NMI
	$(Q)tests/audit/run

clippy:	## the kernel's lints for Rust; any warning fails
	$(Q)scripts/build clippy

rustdoc:	## the documentation of the Rust sources, under build/
	$(Q)scripts/build rustdoc

rust-analyzer:	## rust-project.json, by which rust-analyzer finds its way
	$(Q)scripts/build rust-analyzer

rustfmt:	## formats the Rust sources
	$(Q)scripts/build rustfmt

## For the kernel itself
upstream:	## kernel patches: irq_work, llist, last references
	$(Q)upstream/series

upstream-test:	## builds a kernel with them, and tests it: 20 minutes
	$(Q)tests/upstream/kernel

## Cleaning up
clean:	## removes all that was built
	$(Q)rm -rf build rust-project.json kptr_defer.ko kptr_defer_guard.ko

distclean: clean	## also removes the cache: tool chain, kernels, metadata
	$(Q)scripts/build forget-cache

help:	## this
	$(Q)awk -F '\t' '/^## / { printf "%s%s:\n", any++ ? "\n" : "", substr($$0, 4) } \
		/^[a-z][a-z-]*:.*\t## / { name = $$1; sub(/:.*/, "", name); sub(/^## /, "", $$2); \
			printf "  make %-14s %s\n", name, $$2 }' Makefile
	@echo
	@echo 'Variables:'
	@echo '  KDIR=<folder>       what modules of your kernel are built against; by default'
	@echo '                      the running one'
	@echo '  KERNEL=<which>      a kernel of the distribution: a series (7.3), a release, a'
	@echo '                      flavour (rt-amd64) or 7.3-rt-amd64; in the machine by'
	@echo '                      default the newest. Or one that is built here: debug (x86'
	@echo '                      with KASAN, lockdep, CFI), arm64 (its PMU interrupts in'
	@echo '                      NMI), in-tree (kptr_defer built in)'
	@echo '  CLIPPY=1            make builds the modules with the lints for Rust'
	@echo '  KEEP=1              make bench leaves Documentation/ as it is'
	@echo '  SMP=<n>             processors of the virtual machine (2)'
	@echo '  KPTR_DEFER_CACHE=   where tool chain and kernels are kept'
	@echo '                      ($${XDG_CACHE_HOME:-~/.cache}/kptr_defer)'
	@echo '  KPTR_DEFER_MIRROR=  another Debian mirror than that in the apt sources here'
	@echo '  KPTR_DEFER_ACCEL=   tcg or kvm; kvm is used where it really works'
	@echo '  NO_COLOR=1          no colours; there are none but on a terminal'
