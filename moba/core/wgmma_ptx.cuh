/* The PTX text of wgmma for each width N of the result (16, 32, 64, 96, 128), with operand a in shared memory
   or in registers. The five widths differ only in their numbers. Included by tensor.cuh only. */
#pragma once

namespace moba {

#define WGMMA_4(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])

template <bool a_transposed, bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[2][4], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7"
                 "}, %8, %9, p, 1, 1, %11, %12;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1])
                 : "l"(a), "l"(b), "r"(accumulate), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[2][4], const uint32_t (&a)[4], uint64_t b,
                                        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %13, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7"
                 "}, {%8, %9, %10, %11}, %12, p, 1, 1, %14;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(b_transposed));
}

template <bool a_transposed, bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[4][4], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
                 "}, %16, %17, p, 1, 1, %19, %20;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3])
                 : "l"(a), "l"(b), "r"(accumulate), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[4][4], const uint32_t (&a)[4], uint64_t b,
                                        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
                 "}, {%16, %17, %18, %19}, %20, p, 1, 1, %22;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(b_transposed));
}

template <bool a_transposed, bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[8][4], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, %32, %33, p, 1, 1, %35, %36;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3]), WGMMA_4(d[4]), WGMMA_4(d[5]),
                   WGMMA_4(d[6]), WGMMA_4(d[7])
                 : "l"(a), "l"(b), "r"(accumulate), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b,
                                        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3]), WGMMA_4(d[4]), WGMMA_4(d[5]),
                   WGMMA_4(d[6]), WGMMA_4(d[7])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(b_transposed));
}

template <bool a_transposed, bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[12][4], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
                 "}, %48, %49, p, 1, 1, %51, %52;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3]), WGMMA_4(d[4]), WGMMA_4(d[5]),
                   WGMMA_4(d[6]), WGMMA_4(d[7]), WGMMA_4(d[8]), WGMMA_4(d[9]), WGMMA_4(d[10]), WGMMA_4(d[11])
                 : "l"(a), "l"(b), "r"(accumulate), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[12][4], const uint32_t (&a)[4], uint64_t b,
                                        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %53, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
                 "}, {%48, %49, %50, %51}, %52, p, 1, 1, %54;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3]), WGMMA_4(d[4]), WGMMA_4(d[5]),
                   WGMMA_4(d[6]), WGMMA_4(d[7]), WGMMA_4(d[8]), WGMMA_4(d[9]), WGMMA_4(d[10]), WGMMA_4(d[11])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(b_transposed));
}

template <bool a_transposed, bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[16][4], uint64_t a, uint64_t b, int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, %64, %65, p, 1, 1, %67, %68;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3]), WGMMA_4(d[4]), WGMMA_4(d[5]),
                   WGMMA_4(d[6]), WGMMA_4(d[7]), WGMMA_4(d[8]), WGMMA_4(d[9]), WGMMA_4(d[10]), WGMMA_4(d[11]),
                   WGMMA_4(d[12]), WGMMA_4(d[13]), WGMMA_4(d[14]), WGMMA_4(d[15])
                 : "l"(a), "l"(b), "r"(accumulate), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ __forceinline__ void wgmma_n(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b,
                                        int accumulate) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}\n"
                 : WGMMA_4(d[0]), WGMMA_4(d[1]), WGMMA_4(d[2]), WGMMA_4(d[3]), WGMMA_4(d[4]), WGMMA_4(d[5]),
                   WGMMA_4(d[6]), WGMMA_4(d[7]), WGMMA_4(d[8]), WGMMA_4(d[9]), WGMMA_4(d[10]), WGMMA_4(d[11]),
                   WGMMA_4(d[12]), WGMMA_4(d[13]), WGMMA_4(d[14]), WGMMA_4(d[15])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(b_transposed));
}
#undef WGMMA_4

}  // namespace moba
