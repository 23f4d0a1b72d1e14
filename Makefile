# Short commands for CMakeLists.txt, which is the only build definition.
#   make               the program: build/moba
#   make simt          the program with a simulated GPU: build/simt/moba (kernels run on the CPU; for gdb)
#   make lab           the program with a simulated GPU that counts memory accesses: build/lab/moba lab OP
#   make judge OP=norm is your kernel in docs/course/norm.cu right? What does it cost? (docs/course.md)
#   make test          builds and runs every test
#   make test-long     tests with larger sizes: tensors of more than 2^31 elements, minutes and 20 GB
#   make asan          the same tests under AddressSanitizer and UndefinedBehaviorSanitizer (build/asan)
#   make tsan          kernels and ranks under ThreadSanitizer: a missing barrier is a race (build/tsan)
#   make fuzz          libFuzzer on every reader of external input, one minute each (clang)
#   make bench         times attention, a training step and every operation
#   make deps-bundle   deps/: the external sources that a build needs, for a machine without internet
#   make gpu-bundle    gpu-bundle/: programs and tests for a machine with a GPU, where test/gpu.sh runs them
#   make format        clang-format for all sources
#   ... MOBA_CUDA=OFF         no kernels for GPUs (ON: required; AUTO: if nvcc is installed)
#   ... MOBA_ARCHS="90a"      kernels only for these architectures
#   ... MOBA_STRICT=ON        warnings are errors
MOBA_CUDA ?= AUTO
MOBA_ARCHS ?= 80;90a;100;120
MOBA_STRICT ?= OFF
CONFIGURE = cmake -S . -DMOBA_CUDA=$(MOBA_CUDA) '-DMOBA_ARCHS=$(MOBA_ARCHS)' -DMOBA_STRICT=$(MOBA_STRICT)
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# A limit of two hours stops a test that hangs, but not a test on a slow machine.
CTEST = ctest -j $(JOBS) --output-on-failure --no-tests=error --timeout 7200
# $(call ctest,FOLDER,WORDS): what failed is printed once more at the end, where a cut log still has it.
ctest = cd $(1) && { $(CTEST) $(2) || { bash "$(CURDIR)/test/failed.sh" Testing/Temporary/LastTest.log; exit 1; }; }

all:
	$(CONFIGURE) -B build
	cmake --build build -j $(JOBS) --target moba

simt:
	$(CONFIGURE) -B build
	cmake --build build -j $(JOBS) --target moba_simt

lab:
	$(CONFIGURE) -B build
	cmake --build build -j $(JOBS) --target moba_lab

judge:
	@mkdir -p build; { $(CONFIGURE) -B build && cmake --build build -j $(JOBS) --target judge; } > build/judge.log 2>&1 || { grep -A 5 error build/judge.log || tail build/judge.log; exit 1; }
	@bash test/judge/judge.sh build/lab/judge "$(OP)"

test:
	$(CONFIGURE) -B build
	cmake --build build -j $(JOBS)
	$(call ctest,build)

# Tensors of more than 2^31 elements: 20 GB of memory and several minutes.
test-long:
	$(CONFIGURE) -B build
	cmake --build build -j $(JOBS) --target kernel_test
	MOBA_LONG=1 build/test/kernel_test --gtest_filter='KernelsLarge*:*LongestBlocks'

# ASAN_DEPS: a folder made by test/other_libraries.sh, so that `make test` and `make asan` test two
# generations of the libraries
ASAN_DEPS ?= deps
asan:
	$(CONFIGURE) -B build/asan -DMOBA_SANITIZE=address,undefined -DMOBA_DEPS=$(abspath $(ASAN_DEPS))
	cmake --build build/asan -j $(JOBS)
	$(call ctest,build/asan)

# One order of threads is enough: ThreadSanitizer finds races in any order. The ranks of a run are threads here.
tsan:
	$(CONFIGURE) -B build/tsan -DMOBA_SANITIZE=thread -DMOBA_BLAS=OFF
	cmake --build build/tsan -j $(JOBS) --target kernel_test rank_test
	$(call ctest,build/tsan,-R "kernel_test_forward|rank_test")

# SECONDS_EACH=3600 for a long run; needs clang
SECONDS_EACH ?= 60
fuzz:
	$(CONFIGURE) -B build/fuzz -DCMAKE_CXX_COMPILER=clang++ -DMOBA_FUZZ=ON -DMOBA_SANITIZE=address,undefined -DMOBA_BLAS=OFF
	cmake --build build/fuzz -j $(JOBS)
	test/fuzz/run.sh build/fuzz/test $(SECONDS_EACH)

bench: all
	build/moba bench attention --seq-len 16384
	build/moba bench step --seq-len 1024 --batch-size 4 --block-size 64
	build/moba bench op --seq-len 1024 --batch-size 4

deps-bundle:
	test/deps.sh deps

gpu-bundle:
	JOBS=$(JOBS) test/gpu/bundle.sh gpu-bundle

format:
	clang-format -i $$(git ls-files moba train test | grep -E "[.](cpp|h|cu|cuh)$$" | grep -v test/simt/cuda)

clean:
	rm -rf build

.PHONY: all simt lab judge test test-long asan tsan fuzz bench deps-bundle gpu-bundle format clean
