/* The PTX text of wgmma for each width N of the result (16, 32, 64, 96, 128), with operand a in shared memory
   or in registers. Included by tensor.cuh only. */
#pragma once

namespace moba {

// Registers %0 ... of the result in the PTX text: N / 2 of them
#define WGMMA_16 "%0, %1, %2, %3, %4, %5, %6, %7"
#define WGMMA_32 WGMMA_16 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_64 WGMMA_32 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_96 WGMMA_64 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_128 WGMMA_96 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// The same as operands of asm
#define WGMMA_4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define WGMMA_OPERANDS_16 WGMMA_4(0), WGMMA_4(1)
#define WGMMA_OPERANDS_32 WGMMA_OPERANDS_16, WGMMA_4(2), WGMMA_4(3)
#define WGMMA_OPERANDS_64 WGMMA_OPERANDS_32, WGMMA_4(4), WGMMA_4(5), WGMMA_4(6), WGMMA_4(7)
#define WGMMA_OPERANDS_96 WGMMA_OPERANDS_64, WGMMA_4(8), WGMMA_4(9), WGMMA_4(10), WGMMA_4(11)
#define WGMMA_OPERANDS_128 WGMMA_OPERANDS_96, WGMMA_4(12), WGMMA_4(13), WGMMA_4(14), WGMMA_4(15)

/* Width N. i0 ... i6 are the numbers of the operands after the result: N / 2 and the next ones. The predicate
   p says whether the product is added to d. The two ones: a and b are not negated. */
#define WGMMA(N, i0, i1, i2, i3, i4, i5, i6)                                                                 \
    template <bool a_transposed, bool b_transposed>                                                          \
    __device__ __forceinline__ void wgmma_n(float(&d)[N / 8][4], uint64_t a, uint64_t b, int accumulate) {   \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i2 ", 0;\n"                                       \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" WGMMA_##N                  \
                     "}, %" #i0 ", %" #i1 ", p, 1, 1, %" #i3 ", %" #i4 ";\n}\n"                              \
                     : WGMMA_OPERANDS_##N                                                                    \
                     : "l"(a), "l"(b), "r"(accumulate), "n"(a_transposed), "n"(b_transposed));               \
    }                                                                                                        \
    template <bool b_transposed>                                                                             \
    __device__ __forceinline__ void wgmma_n(float(&d)[N / 8][4], const uint32_t(&a)[4], uint64_t b,          \
                                            int accumulate) {                                                \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i5 ", 0;\n"                                       \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" WGMMA_##N                  \
                     "}, {%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4 ", p, 1, 1, %" #i6 ";\n}\n"        \
                     : WGMMA_OPERANDS_##N                                                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate),                  \
                       "n"(b_transposed));                                                                   \
    }
WGMMA(16, 8, 9, 10, 11, 12, 13, 14)
WGMMA(32, 16, 17, 18, 19, 20, 21, 22)
WGMMA(64, 32, 33, 34, 35, 36, 37, 38)
WGMMA(96, 48, 49, 50, 51, 52, 53, 54)
WGMMA(128, 64, 65, 66, 67, 68, 69, 70)
#undef WGMMA

}  // namespace moba
