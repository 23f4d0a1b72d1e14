/* tensor_kernels.h: the products of a warpgroup. */
#include "test/kernels/tensor_kernels.cuh"

namespace moba {

using namespace tensor_kernels;

template <int N, A form, bool b_transposed>
static __global__ void __launch_bounds__(128)
    wgmma_kernel(float* c, const bf16* a, const bf16* b, Mistake wrong) {
#if HOPPER_CODE
    SHARED_MEMORY;
    constexpr int K = 128;
    constexpr int a_rows = form == A::transposed ? K : 64, a_pieces = form == A::transposed ? 8 : K / 8;
    constexpr int b_rows = b_transposed ? K : N, b_pieces = b_transposed ? N / 8 : K / 8;
    unsigned char *sa = shared_memory, *sb = sa + 64 * K * sizeof(bf16);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
    for (int o = threadIdx.x; o < a_rows * a_pieces; o += 128) {
        cp_async_16(sa + piece_offset(o / a_pieces, o % a_pieces, a_rows), a + o * 8);
    }
    for (int o = threadIdx.x; o < b_rows * b_pieces; o += 128) {
        const int row = o / b_pieces, piece = o % b_pieces;
        const int at = makes(wrong, unswizzled) ? (piece / 8 * b_rows + row) * 128 + piece % 8 * 16
                                                : piece_offset(row, piece, b_rows);
        if (makes(wrong, plain_store)) {
            store_pack((bf16*)(sb + at), load_pack<bf16, 8>(b + o * 8));
        } else if (o % 3 == 0) {  // some by stores, as kernels write operands they have computed
            store_operand((Pack<bf16, 8>*)(sb + at), load_pack<bf16, 8>(b + o * 8));
        } else {
            cp_async_16(sb + at, b + o * 8);
        }
    }
    cp_async_commit();
    cp_async_wait<0>();
    if (!makes(wrong, no_proxy_fence) && !(makes(wrong, one_fences) && threadIdx.x > 0)) {
        fence_proxy_async();
    }
    __syncthreads();
    float d[N / 8][4];
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) { d[j][i] = 1; }  // must not be added to the first product
    }
    uint32_t fa[K / 16][4] = {};
    if (form == A::registers) {
#pragma unroll
        for (int step = 0; step < K / 16; step++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = 16 * warp + g + i % 2 * 8, k = 16 * step + 2 * q + i / 2 * 8;
                fa[step][i] = *(const uint32_t*)(a + row * K + k);
            }
        }
    }
    // Where the 16 channels of a step begin. Untransposed, rows of 128 bytes hold channels; transposed,
    // channels follow one another every 128 bytes. Both in panels of 64 elements.
    const auto start = [](unsigned char* tile, int rows, bool transposed, int step) {
        return tile + (transposed ? step * 16 * 128 : step / 4 * 128 * rows + step % 4 * 32);
    };
    if (!makes(wrong, no_wgmma_fence)) { wgmma_fence(); }
#pragma unroll
    for (int step = 0; step < K / 16; step++) {
        const bool swapped = makes(wrong, strides_swapped);
        uint64_t db =
            operand(start(sb, b_rows, b_transposed, step), b_transposed ? swapped ? 1024 : b_rows * 128 : 16);
        if (swapped) { db = (db & ~(0x3FFFull << 32)) | (uint64_t)(b_rows * 128 / 16) << 32; }
        if (makes(wrong, wrong_mode)) { db = (db & ~(3ull << 62)) | 2ull << 62; }  // rows of 64 bytes
        if (makes(wrong, row_off)) { db += 128 / 16; }
        if (makes(wrong, lanes_differ)) { db += lane == 7; }
        if constexpr (form == A::registers) {
            wgmma<N, b_transposed>(d, fa[step], db, step > 0);
        } else {
            constexpr bool turned = form == A::transposed;
            wgmma<N, turned, b_transposed>(
                d, operand(start(sa, a_rows, turned, step), turned ? a_rows * 128 : 16), db, step > 0);
        }
    }
    wgmma_commit();
    if (makes(wrong, a_changed)) { fa[3][1] = 0; }
    if (makes(wrong, operand_overwritten)) { store_operand((uint32_t*)sb + threadIdx.x, 0u); }
    if (makes(wrong, accumulator_touched)) { d[0][0] += 1; }
    const auto store = [&] {
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                c[(16 * warp + g + i / 2 * 8) * N + 8 * j + 2 * q + i % 2] = d[j][i];
            }
        }
    };
    if (makes(wrong, no_wgmma_wait)) { store(); }
    wgmma_wait<0>(d, fa);
    if (!makes(wrong, no_wgmma_wait)) { store(); }
#else
    __trap();
#endif
}

// ---- host ----

template <int N, A form>
static auto kernel_of(bool b_transposed) {
    return b_transposed ? wgmma_kernel<N, form, true> : wgmma_kernel<N, form, false>;
}
template <int N>
static auto kernel_of(A form, bool b_transposed) {
    return form == A::rows         ? kernel_of<N, A::rows>(b_transposed)
           : form == A::transposed ? kernel_of<N, A::transposed>(b_transposed)
                                   : kernel_of<N, A::registers>(b_transposed);
}
void tensor_kernels::warpgroup_product(const Ctx& ctx, float* c, const bf16* a, const bf16* b, int N, A form,
                                       bool b_transposed, Mistake wrong) {
    REQUIRE(N == 16 || N == 32 || N == 64 || N == 96 || N == 128, "N = %d", N);
    const auto kernel = N == 16   ? kernel_of<16>(form, b_transposed)
                        : N == 32 ? kernel_of<32>(form, b_transposed)
                        : N == 64 ? kernel_of<64>(form, b_transposed)
                        : N == 96 ? kernel_of<96>(form, b_transposed)
                                  : kernel_of<128>(form, b_transposed);
    const size_t bytes = (64 + 128) * 128 * sizeof(bf16);  // 48 KB, available to every kernel
    launch(kernel, 1, wrong == half_warpgroup ? 64 : 128, bytes, ctx.stream, c, a, b, wrong);
    LAUNCHED(ctx);
}

}  // namespace moba
