# mm - build, test, install. `make help` lists the targets.
#
# Variables a packager may set: CC CFLAGS LDFLAGS prefix DESTDIR, DEFAULT_MODEL=FILE (linked in; empty: none), SANITIZE=address,undefined,
# DEVELOPER=1 (warnings are errors). Objects live in build/<hash of compiler and flags>/, so that builds with other flags never mix; build/bin
# points to the programs built last.

VERSION := 0.1
CC ?= gcc
CFLAGS ?= -O2 -g
PKG_CONFIG ?= pkg-config
prefix ?= /usr/local
bindir ?= $(prefix)/bin
libdir ?= $(prefix)/lib
includedir ?= $(prefix)/include
mandir ?= $(prefix)/share/man
datadir ?= $(prefix)/share

# the model that is linked into the library and used without -m; none where there is no such file
DEFAULT_MODEL ?= $(wildcard lib/model/default.gguf)

MACHINE := $(shell $(CC) -dumpmachine)
ARCH := $(if $(findstring x86_64,$(MACHINE)),x86,$(if $(findstring aarch64,$(MACHINE)),arm,none))

# ---- libraries, by pkg-config; a missing one is named with the package that has it ----
need = $(if $(shell $(PKG_CONFIG) --exists $(1) && echo y),,$(error $(1) not found: install $(2) (scripts/deps does)))
NODEPS := clean help uninstall check-style dist check-arm64
ifneq ($(filter-out $(NODEPS),$(or $(MAKECMDGOALS),all)),)
$(call need,jansson,libjansson-dev)
$(call need,libutf8proc,libutf8proc-dev)
$(call need,sndfile,libsndfile1-dev)
$(call need,libavformat,libavformat-dev)
$(call need,libavcodec,libavcodec-dev)
$(call need,libswscale,libswscale-dev)
$(call need,libswresample,libswresample-dev)
$(call need,libjpeg,libjpeg62-turbo-dev)
$(call need,libwebp,libwebp-dev)
$(call need,libwebpdemux,libwebp-dev)
$(call need,zlib,zlib1g-dev)
DEPS := jansson libutf8proc sndfile libavformat libavcodec libavutil libswscale libswresample libjpeg libwebp libwebpdemux zlib
DEPS_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(DEPS))
DEPS_LIBS := $(shell $(PKG_CONFIG) --libs $(DEPS))
endif

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wvla -Wpointer-arith \
	-Wcast-align -Wundef
ifeq ($(DEVELOPER),1)
WARN += -Werror
endif
BASE := -std=c11 -D_GNU_SOURCE -DMM_VERSION='"$(VERSION)"' -I. -Ilib -fPIC -fvisibility=hidden -fopenmp \
	-fno-math-errno -fno-trapping-math $(WARN) $(DEPS_CFLAGS)
ifneq ($(SANITIZE),)
BASE += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
LDFLAGS += -fsanitize=$(SANITIZE)
endif
LIBS := -Wl,--as-needed $(DEPS_LIBS) -lm -lpthread -ldl
LINK = $(CC) $(CFLAGS) -fopenmp $(LDFLAGS)

# ---- kernels: each instruction set has flags of its own, by file suffix; everything else stays at the ABI baseline ----
AVX2 := -mavx2 -mfma -mf16c -mpopcnt
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
file_flags = $(if $(filter kernels/ref/%,$1),-ffp-contract=off -fno-tree-vectorize,) \
	$(if $(filter lib/media/% lib/gen/%,$1),-ffp-contract=off,) $(if $(filter %_avx2.c,$1),$(AVX2),) $(if $(filter %_avx512.c,$1),$(AVX512),) \
	$(if $(filter %_vnni.c,$1),$(AVX512) -mavx512vnni,) \
	$(if $(filter %_amx.c,$1),$(AVX512) -mavx512vnni -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8,) \
	$(if $(filter lib/store/builtin.c,$1),$(if $(DEFAULT_MODEL),-DMM_DEFAULT_GGUF='"$(DEFAULT_MODEL)"')) \
	$(if $(filter %_dotprod.c,$1),-march=armv8.2-a+dotprod+fp16,) $(if $(filter %_i8mm.c,$1),-march=armv8.2-a+i8mm+dotprod,)

HASH := $(shell printf '%s' '$(subst ','"'"',$(CC) $(CFLAGS) $(BASE) $(LDFLAGS) $(AVX512))' | cksum | cut -d' ' -f1)
B := build/$(HASH)

KERN_SRC := $(sort $(wildcard kernels/*.c kernels/ref/*.c kernels/$(ARCH)/*.c))
LIB_SRC := $(KERN_SRC) $(sort $(wildcard lib/*/*.c))
CMD_COMMON := $(sort $(filter-out cmd/mm-%.c,$(wildcard cmd/*.c)))
FILTERS := $(patsubst cmd/%.c,%,$(sort $(wildcard cmd/mm-*.c)))
UNIT := $(patsubst tests/unit/%.c,%,$(sort $(wildcard tests/unit/test_*.c)))
FUZZ := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
TOOLS := $(patsubst tests/tools/%.c,%,$(sort $(wildcard tests/tools/*.c)))
F64 := $(patsubst tests/f64/%.c,%,$(sort $(wildcard tests/f64/test_*.c)))
# what gradient checks compile with float as double (tests/f64/float64.h)
F64_SRC := $(sort $(wildcard kernels/*.c kernels/ref/*.c lib/base/*.c lib/graph/*.c) lib/model/block.c)
KERN_TEST := $(sort $(wildcard tests/kern/*.c))
HEADERS := $(sort $(wildcard lib/*/mm_*.h) $(wildcard kernels/mm_*.h))
obj = $(patsubst %.c,$(B)/%.o,$1)

all: $(FILTERS:%=$(B)/bin/%) $(B)/libmm.a $(B)/libmm.so links

# build/bin -> the programs of this build; replaced at once, so that a test that runs meanwhile never misses it
links: $(FILTERS:%=$(B)/bin/%)
	@mkdir -p build $(B)/bin && ln -sfn $(HASH)/bin build/bin.new && mv -Tf build/bin.new build/bin

# one short line a step; V=1 shows the commands
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' $(1) $(2))

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(BASE) $(CFLAGS) $(call file_flags,$<) -MMD -MP -c $< -o $@

$(B)/lib/store/builtin.o: $(B)/default $(DEFAULT_MODEL)
$(B)/default: FORCE
	@mkdir -p $(@D) && echo '$(DEFAULT_MODEL)' | cmp -s - $@ || echo '$(DEFAULT_MODEL)' > $@
# test programs are many and name their models: no copy of the default in each
$(B)/no_default.o: lib/store/builtin.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) -c $< -o $@
$(B)/libmm.a: $(call obj,$(LIB_SRC))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
$(B)/libmm.so: $(call obj,$(LIB_SRC))
	$(Q)$(LINK) -shared -Wl,-soname,libmm.so.0 -o $@ $^ $(LIBS)
# what filters share, as an archive: a filter takes what it uses, and starts without the libraries of the rest
$(B)/libcmd.a: $(call obj,$(CMD_COMMON))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
$(B)/bin/%: $(B)/cmd/%.o $(B)/libcmd.a $(B)/libmm.a
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/no_default.o $(B)/libmm.a
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/tests/tools/%: $(B)/tests/tools/%.o $(B)/no_default.o $(B)/libmm.a
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/tests/fuzz/replay.o $(B)/no_default.o $(B)/libmm.a
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/f64/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC64,$<)
	$(Q)$(CC) $(BASE) $(CFLAGS) -DMMK_REF_ONLY -include tests/f64/float64.h -MMD -MP -c $< -o $@
$(B)/tests/f64/%: $(B)/f64/tests/f64/%.o $(patsubst %.c,$(B)/f64/%.o,$(F64_SRC))
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/check_kern: $(call obj,$(KERN_TEST) $(KERN_SRC))
	$(Q)$(LINK) -o $@ $^ -lm -ldl
.PRECIOUS: $(B)/%.o $(B)/f64/%.o

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- tests ----
TEST_ENV = MM_BUILD='$(CURDIR)/$(B)' MM_ROOT='$(CURDIR)' LC_ALL=C MM_CC='$(CC) $(if $(SANITIZE),-fsanitize=$(SANITIZE))'
PROVE ?= prove
test-programs: all $(UNIT:%=$(B)/tests/unit/%) $(TOOLS:%=$(B)/tests/tools/%) $(FUZZ:%=$(B)/tests/fuzz/%) $(F64:%=$(B)/tests/f64/%) $(B)/check_kern

# everything that needs no network, no GPU, no data set
check: test-programs check-style check-docs check-headers check-symbols
	$(TEST_ENV) $(PROVE) -j2 $(if $(CI),,--timer) $(UNIT:%=$(B)/tests/unit/%) $(F64:%=$(B)/tests/f64/%) tests/t[0-9]*.sh
check-quick: $(UNIT:%=$(B)/tests/unit/%)
	$(TEST_ENV) $(PROVE) -j2 $(UNIT:%=$(B)/tests/unit/%)
check-kern: $(B)/check_kern
	$(B)/check_kern
bench: $(B)/check_kern
	$(B)/check_kern --bench

check-headers:
	@for h in $(HEADERS); do \
	  echo "#include \"$${h#lib/}\"" | $(CC) $(BASE) $(WARN) -Werror -x c -fsyntax-only - && \
	  echo "#include \"$${h#lib/}\"" | $(CC) -x c++ -I. -Ilib $(DEPS_CFLAGS) -Wall -Werror -fsyntax-only - || \
	  { echo "$$h does not compile alone"; exit 1; }; done
check-symbols: $(B)/libmm.so
	@bad=$$(nm -D --defined-only $< | awk '{print $$3}' | grep -Ev '^(mm_|mmk_|_init$$|_fini$$|__odr_asan)' || true); \
	 [ -z "$$bad" ] || { echo "exported without prefix: $$bad"; exit 1; }
check-docs: all
	$(TEST_ENV) sh scripts/check-docs
check-style:
	sh scripts/check-style

check-arm64:
	sh scripts/check-arm64

# the same tests under the sanitizers; OpenMP's own threads are not known to tsan, so that one runs with one thread each
asan:
	$(MAKE) check SANITIZE=address,undefined CFLAGS='-O1 -g'
ubsan:
	$(MAKE) check SANITIZE=undefined CFLAGS='-O1 -g'
tsan:
	OMP_NUM_THREADS=1 $(MAKE) check SANITIZE=thread CFLAGS='-O1 -g'
cov:
	$(MAKE) check CFLAGS='-O0 -g --coverage' LDFLAGS='--coverage'
	cd $$($(MAKE) -s print-build CFLAGS='-O0 -g --coverage' LDFLAGS='--coverage') && \
	  find lib -name '*.gcda' | sed 's/gcda$$/o/' | xargs gcov -n 2>/dev/null | grep -A1 "^File 'lib" | grep -v '^--'
print-build:
	@echo $(B)
print-libs:
	@echo '$(LDFLAGS) $(LIBS)'
# libFuzzer wants clang: make fuzz FUZZ_SECONDS=600
FUZZ_SECONDS ?= 60
fuzz:
	sh scripts/fuzz $(FUZZ_SECONDS)

# ---- install ----
INSTALL ?= install
install: all
	$(INSTALL) -d $(DESTDIR)$(bindir) $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man5 \
	  $(DESTDIR)$(mandir)/man7 $(DESTDIR)$(datadir)/bash-completion/completions \
	  $(DESTDIR)$(datadir)/zsh/site-functions $(DESTDIR)$(datadir)/fish/vendor_completions.d
	$(INSTALL) -m 755 $(FILTERS:%=$(B)/bin/%) $(DESTDIR)$(bindir)
	$(INSTALL) -m 644 $(B)/libmm.a $(DESTDIR)$(libdir)
	$(INSTALL) -m 755 $(B)/libmm.so $(DESTDIR)$(libdir)/libmm.so.0
	ln -sf libmm.so.0 $(DESTDIR)$(libdir)/libmm.so
	for h in $(HEADERS); do d=$${h#lib/}; $(INSTALL) -D -m 644 $$h $(DESTDIR)$(includedir)/mm/$$d || exit 1; done
	printf 'prefix=%s\nlibdir=%s\nincludedir=%s\n\nName: mm\nDescription: multimodal models as a C library\nVersion: %s\nRequires: jansson\nLibs: -L$${libdir} -lmm\nLibs.private: %s -lm -lpthread -ldl -fopenmp\nCflags: -I$${includedir}/mm\n' \
	  '$(prefix)' '$(libdir)' '$(includedir)' '$(VERSION)' '$(DEPS_LIBS)' > $(DESTDIR)$(libdir)/pkgconfig/mm.pc
	for n in 1 5 7; do for m in man/*.$$n; do [ ! -e $$m ] || $(INSTALL) -m 644 $$m $(DESTDIR)$(mandir)/man$$n || exit 1; done; done
	for f in $(FILTERS); do \
	  sh scripts/completions bash $(B)/bin/$$f > $(DESTDIR)$(datadir)/bash-completion/completions/$$f && \
	  sh scripts/completions zsh $(B)/bin/$$f > $(DESTDIR)$(datadir)/zsh/site-functions/_$$f && \
	  sh scripts/completions fish $(B)/bin/$$f > $(DESTDIR)$(datadir)/fish/vendor_completions.d/$$f.fish || exit 1; done
	$(INSTALL) -m 755 scripts/get-model $(DESTDIR)$(bindir)/mm-get-model
	$(INSTALL) -D -m 644 scripts/models.tsv $(DESTDIR)$(datadir)/mm/models.tsv
	$(INSTALL) -m 644 lib/model/default.md $(DESTDIR)$(datadir)/mm/default.md
uninstall:
	rm -f $(FILTERS:%=$(DESTDIR)$(bindir)/%) $(DESTDIR)$(bindir)/mm-get-model
	rm -rf $(DESTDIR)$(datadir)/mm
	rm -f $(DESTDIR)$(libdir)/libmm.a $(DESTDIR)$(libdir)/libmm.so $(DESTDIR)$(libdir)/libmm.so.0 $(DESTDIR)$(libdir)/pkgconfig/mm.pc
	rm -rf $(DESTDIR)$(includedir)/mm
	for n in 1 5 7; do for m in man/*.$$n; do rm -f $(DESTDIR)$(mandir)/man$$n/$${m#man/}; done; done
	for f in $(FILTERS); do rm -f $(DESTDIR)$(datadir)/bash-completion/completions/$$f \
	  $(DESTDIR)$(datadir)/zsh/site-functions/_$$f $(DESTDIR)$(datadir)/fish/vendor_completions.d/$$f.fish; done

dist:
	git archive --prefix=mm-$(VERSION)/ -o mm-$(VERSION).tar.gz HEAD
clean:
	rm -rf build
help:
	@echo 'all                 filters, libmm.a, libmm.so (build/bin points to them)'
	@echo 'check               all tests without network or data (< 3 min); check-quick: unit tests only'
	@echo 'check-kern          every kernel level of this CPU against kernels/ref; check-arm64: the same under qemu'
	@echo 'check-docs check-headers check-symbols check-style'
	@echo 'asan ubsan tsan     make check under the sanitizers; cov: line coverage; fuzz: libFuzzer (FUZZ_SECONDS=60)'
	@echo 'bench               kernel timings as JSON lines; scripts/bench: against the peers'
	@echo 'install uninstall   prefix=/usr/local DESTDIR='
	@echo 'dist clean'

FORCE:
.PHONY: all links test-programs check check-quick check-kern bench check-headers check-symbols check-docs check-style \
	check-arm64 asan ubsan tsan cov print-build print-libs fuzz install uninstall dist clean help
