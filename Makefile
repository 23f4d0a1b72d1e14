# A thin front for CMakeLists.txt, the one build definition.
#   make          the program: build/moba
#   make test     builds and runs every test
#   make asan     the same tests under AddressSanitizer and UndefinedBehaviorSanitizer (build/asan)
#   make bench    times attention, a training step and every operation
#   make format   clang-format over all sources
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

all:
	cmake -S . -B build
	cmake --build build -j $(JOBS) --target moba

test:
	cmake -S . -B build
	cmake --build build -j $(JOBS)
	cd build && ctest --output-on-failure --no-tests=error

asan:
	cmake -S . -B build/asan -DMOBA_SANITIZE=address,undefined
	cmake --build build/asan -j $(JOBS)
	cd build/asan && ctest --output-on-failure --no-tests=error

bench: all
	build/moba bench attention --seq-len 16384
	build/moba bench step --seq-len 1024 --batch-size 4 --block-size 64
	build/moba bench op --seq-len 1024 --batch-size 4

format:
	clang-format -i moba/*.h moba/*.cpp train/*.h train/*.cpp test/*.h test/*.cpp

clean:
	rm -rf build

.PHONY: all test asan bench format clean
