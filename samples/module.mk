# SPDX-License-Identifier: GPL-2.0
#
# kptr_defer_sample_<folder>.ko, for the running kernel or for KDIR.
#
#   make -C samples/<folder> [KDIR=<the kernel's build folder>] [MO=<where to build>]
#
# KPTR_DEFER_BUILD  the folder that kptr_defer.ko was built in, with Module.symvers, unless
#                   it is part of the kernel

KDIR ?= /lib/modules/$(shell uname -r)/build
release := $(shell cat $(KDIR)/include/config/kernel.release)
KPTR_DEFER_BUILD ?= $(CURDIR)/../../build/$(release)/module
MO ?= $(CURDIR)/../../build/$(release)/sample_$(notdir $(CURDIR))

# O= of a kselftest's make is the kselftest's.
modules clean:
	mkdir -p $(MO)
	$(MAKE) -C $(KDIR) $(if $(O),O=$(KDIR)) M=$(CURDIR) MO=$(abspath $(MO)) \
		KBUILD_EXTRA_SYMBOLS=$(wildcard $(abspath $(KPTR_DEFER_BUILD))/Module.symvers) $@

.PHONY: modules clean
