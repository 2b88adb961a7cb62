# SPDX-License-Identifier: GPL-2.0
#
# kptr_defer_sample_<folder>.ko, for the running kernel or for KDIR.
#
#   make -C samples/<folder> [KDIR=<the kernel's build folder>] [MO=<where to build>]
#
# KPTR_DEFER_BUILD  the folder that kptr_defer.ko was built in, with Module.symvers, unless
#                   it is part of the kernel

KDIR ?= /lib/modules/$(shell uname -r)/build
release := $(shell cat $(KDIR)/include/config/kernel.release 2>/dev/null)
ifeq ($(release),)
$(error $(KDIR) is no build folder of a kernel: install its headers, or say where one is with KDIR=)
endif
-include $(KDIR)/include/config/auto.conf
KPTR_DEFER_BUILD ?= $(CURDIR)/../../build/$(release)/module
MO ?= $(CURDIR)/../../build/$(release)/sample_$(notdir $(CURDIR))

ifeq ($(CONFIG_KPTR_DEFER)$(wildcard $(KPTR_DEFER_BUILD)/Module.symvers),)
$(error there is no $(KPTR_DEFER_BUILD)/Module.symvers: build kptr_defer for $(release) first, or say where it is with KPTR_DEFER_BUILD=)
endif

# O= of a kselftest's make is the kselftest's.
modules clean:
	mkdir -p $(MO)
	$(MAKE) -C $(KDIR) $(if $(O),O=$(KDIR)) M=$(CURDIR) MO=$(abspath $(MO)) \
		KBUILD_EXTRA_SYMBOLS=$(wildcard $(abspath $(KPTR_DEFER_BUILD))/Module.symvers) $@

.PHONY: modules clean
