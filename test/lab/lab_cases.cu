/* Kernels whose accesses are counted by hand: each number is derived in the comment beside it. */
#include "moba/core/device.cuh"
#include "moba/core/tensor.cuh"
#include "test/lab/lab_cases.h"

namespace moba {

static const int threads = 256;  // 8 warps
static char *a, *b;
static float *y, *x;
static int* row;

template <class E, int N>
__global__ void copy_kernel(E* y, const E* x) {
    const int i = (blockIdx.x * blockDim.x + threadIdx.x) * N;
    store_pack(y + i, load_pack<E, N>(x + i));
}
__global__ void stride_kernel(float* y, const float* x, int stride, int offset) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[(size_t)i * stride + offset];
}
__global__ void broadcast_kernel(float* y, const float* x) {
    y[blockIdx.x * blockDim.x + threadIdx.x] = x[5] + 1;
}
// a tile of 32 x 32 through shared memory, 32 x 32 threads
template <int W>
__global__ void transpose_kernel(float* y, const float* x) {
    __shared__ float tile[32][W];
    tile[threadIdx.y][threadIdx.x] = x[threadIdx.y * 32 + threadIdx.x];
    __syncthreads();
    y[threadIdx.y * 32 + threadIdx.x] = tile[threadIdx.x][threadIdx.y];
}
// 16-byte loads of neighbouring rows, lane l reads row l % rows
template <int W>
__global__ void rows_kernel(float* y, int rows) {
    SHARED_MEMORY;
    float* tile = (float*)shared_memory;
    const Pack<float, 4> p = load_pack<float, 4>(tile + threadIdx.x % rows * W);
    y[threadIdx.x] = p.at[0] + p.at[3];
}
// as in rows_kernel, but the row of a lane is chosen by the lane shifted: neighbours share
__global__ void paired_rows_kernel(float* y) {
    SHARED_MEMORY;
    float* tile = (float*)shared_memory;
    const Pack<float, 4> p = load_pack<float, 4>(tile + threadIdx.x / 2 * 132);
    y[threadIdx.x] = p.at[0] + p.at[3];
}
__global__ void doubles_kernel(double* y, int stride) {  // 8-byte shared loads
    SHARED_MEMORY;
    const double* x = (const double*)shared_memory;
    y[threadIdx.x] = x[threadIdx.x * stride];
}
/* Cases that others measured with ncu on an A100 (l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld,
   zhuanlan.zhihu.com/p/690052715). Lane t reads the uint2 or uint4 number `at`. */
template <int N>
__global__ void measured_kernel(float* y, int which) {
    SHARED_MEMORY;
    const int t = threadIdx.x;
    const int at = which == 1 || which == 2 ? 4
                   : which == 3             ? t / 8 * 2 + t % 8 / 2 % 2
                   : which == 4             ? t / 8 * 2 + (t < 16 ? t % 8 / 2 % 2 : t % 8 % 2)
                   : which == 5             ? t / 16 * 4 + t % 16 / 8 + t % 8 / 4 * 8
                   : which == 6             ? t
                                            : t / 2;
    if ((which == 1 && t != 15 && t != 16) || (which == 2 && t != 0 && t != 15)) { return; }
    y[t] = load_pack<float, N>((const float*)shared_memory + N * at).at[1];
}
// rows of 256 bytes, each read by 16 lanes of 16 bytes
__global__ void gather_kernel(Pack<float, 4>* y, const Pack<float, 4>* x, const int* row) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[row[i / 16] * 16 + i % 16];
}
// what a compiler keeps in a register: x[i] is read once, though a result is written between (to a local)
__device__ static void twice(float* a, float* b, const float* x) {
    *a = x[0] + 1;
    *b = x[0] * x[0];
}
__global__ void register_kernel(float* y, const float* x) {
    float a, b;
    twice(&a, &b, x + threadIdx.x);
    y[threadIdx.x] = a + b;
}
// y may be x: after the write x[i] must be read again
__global__ void alias_kernel(float* y, const float* x) {
    y[threadIdx.x] = x[threadIdx.x] + 1;
    y[threadIdx.x + 32] = x[threadIdx.x] + 2;
}
// in a loop, only odd lanes or only even ones load, in turn: 8 requests of 16 lanes, never 4 of 32
__global__ void divergent_kernel(float* y, const float* x) {
    float sum = 0;
    for (int i = 0; i < 8; i++) {
        if ((threadIdx.x + i) % 2) { sum += x[i * 32 + threadIdx.x]; }
    }
    y[threadIdx.x] = sum;
}
// lanes leave a loop one after another: lane l makes l + 1 trips
__global__ void triangle_kernel(float* y, const float* x) {
    float sum = 0;
    for (int i = 0; i <= (int)threadIdx.x; i++) { sum += x[i * 32 + threadIdx.x]; }
    y[threadIdx.x] = sum;
}

// 16 bytes of each lane by cp.async
__global__ void async_copy_kernel(float* y, const float* x) {
    SHARED_MEMORY;
    float* tile = (float*)shared_memory;
    cp_async_16(tile + 4 * threadIdx.x, x + 4 * threadIdx.x);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
    y[threadIdx.x] = tile[threadIdx.x];
}
// ldmatrix of rows of 128 bytes: the first 16 bytes of each, or where the swizzle puts them
template <bool swizzled>
__global__ void matrix_kernel(uint32_t* y) {
    SHARED_MEMORY;
    const int row = threadIdx.x;
    uint32_t r[4];
    ldmatrix_x4<false>(r, shared_memory + (swizzled ? piece_offset(row, 0, 32) : row * row_bytes));
    y[threadIdx.x] = r[0] ^ r[3];
}

template <class... P, class... A>
static void run(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments) {
    launch(kernel, grid, block, shared, 0, arguments...);
}

void prepare_lab_cases() {
    CUDA_CHECK(cudaMalloc((void**)&a, 1 << 20));
    CUDA_CHECK(cudaMalloc((void**)&b, 1 << 20));
    CUDA_CHECK(cudaMalloc((void**)&row, 1 << 10));
    y = (float*)a, x = (float*)b;
    for (int i = 0; i < 32; i++) { row[i] = (i * 37 + 11) % 32 * 2; }
}
void finish_lab_cases() {
    for (void* p : {(void*)a, (void*)b, (void*)row}) { CUDA_CHECK(cudaFree(p)); }
}

const std::vector<LabCase>& lab_cases() {
    static const WantShared no{0, 0, 0};
    // two: lanes 15 and 16, or 0 and 15, write to 2 sectors
    static const WantGlobal none{0, 0, 0, 0}, all{1, 4, 4, 1}, two{1, 2, 1, 1};
    static const std::vector<LabCase> cases{
        // 2 blocks of 8 warps: 16 requests each way. 32 lanes x 4 bytes = 4 sectors = 1 line
        {"float copy",
         [] { run(copy_kernel<float, 1>, 2, threads, 0, y, x); },
         {16, 64, 64, 16},
         {16, 64, 64, 16},
         no,
         no},
        // 32 x 16 bytes = 512 bytes: 16 sectors, 4 lines
        {"float4 copy",
         [] { run(copy_kernel<float, 4>, 2, threads, 0, y, x); },
         {16, 256, 256, 64},
         {16, 256, 256, 64},
         no,
         no},
        // 32 x 2 bytes: 2 sectors of one line
        {"bf16 copy",
         [] { run(copy_kernel<bf16, 1>, 2, threads, 0, (bf16*)a, (bf16*)b); },
         {16, 32, 32, 16},
         {16, 32, 32, 16},
         no,
         no},
        {"bf16 pack copy",
         [] { run(copy_kernel<bf16, 8>, 2, threads, 0, (bf16*)a, (bf16*)b); },
         {16, 256, 256, 64},
         {16, 256, 256, 64},
         no,
         no},
        // stride 2: 256 bytes are touched for 128: 8 sectors, 2 lines
        {"stride 2",
         [] { run(stride_kernel, 2, threads, 0, y, x, 2, 0); },
         {16, 128, 64, 32},
         {16, 64, 64, 16},
         no,
         no},
        // stride 32: a line for each lane
        {"stride 32",
         [] { run(stride_kernel, 2, threads, 0, y, x, 32, 0); },
         {16, 512, 64, 512},
         {16, 64, 64, 16},
         no,
         no},
        // 4 bytes off: 5 sectors in 2 lines
        {"misaligned",
         [] { run(stride_kernel, 2, threads, 0, y, x, 1, 1); },
         {16, 80, 64, 32},
         {16, 64, 64, 16},
         no,
         no},
        {"broadcast",
         [] { run(broadcast_kernel, 2, threads, 0, y, x); },
         {16, 16, 16, 16},
         {16, 64, 64, 16},
         no,
         no},
        // 32 warps. Rows are written without conflict; a column of 32-float rows is one bank: 32 turns
        {"transpose",
         [] { run(transpose_kernel<32>, 1, dim3(32, 32), 0, y, x); },
         {32, 128, 128, 32},
         {32, 128, 128, 32},
         {32, 1024, 992},
         {32, 32, 0}},
        {"transpose, padded",
         [] { run(transpose_kernel<33>, 1, dim3(32, 32), 0, y, x); },
         {32, 128, 128, 32},
         {32, 128, 128, 32},
         {32, 32, 0},
         {32, 32, 0}},
        // 32 rows, 16 bytes each: 4 phases of 8 lanes, in 8 groups of 4 banks if rows have 132 floats
        {"16 bytes, rows of 132",
         [] { run(rows_kernel<132>, 1, 32, 32 * 132 * 4, y, 32); },
         {0, 0, 0, 0},
         {1, 4, 4, 1},
         {1, 4, 0},
         no},
        // rows of 128: all in banks 0..3: 8 turns in each of 4 phases
        {"16 bytes, rows of 128",
         [] { run(rows_kernel<128>, 1, 32, 32 * 128 * 4, y, 32); },
         {0, 0, 0, 0},
         {1, 4, 4, 1},
         {1, 32, 28},
         no},
        // 16 rows, lanes 16 apart share: still 4 phases
        {"16 bytes, 16 rows twice",
         [] { run(rows_kernel<132>, 1, 32, 32 * 132 * 4, y, 16); },
         {0, 0, 0, 0},
         {1, 4, 4, 1},
         {1, 4, 0},
         no},
        // lanes 4 apart share: the case of forums.developer.nvidia.com/t/77228, 4 by ncu on an RTX card
        {"16 bytes, lane mod 4",
         [] { run(rows_kernel<4>, 1, 32, 1024, y, 4); },
         {0, 0, 0, 0},
         {1, 4, 4, 1},
         {1, 4, 0},
         no},
        // lanes 2 apart share (lane n = lane n ^ 2), and neighbours share: 2 phases each
        {"16 bytes, lane mod 2",
         [] { run(rows_kernel<4>, 1, 32, 1024, y, 2); },
         {0, 0, 0, 0},
         {1, 4, 4, 1},
         {1, 2, 0},
         no},
        {"16 bytes, neighbours share",
         [] { run(paired_rows_kernel, 1, 32, 32 * 132 * 4, y); },
         {0, 0, 0, 0},
         {1, 4, 4, 1},
         {1, 2, 0},
         no},
        // 8 bytes: 2 phases of 16 lanes; stride 2: 16 lanes on 8 pairs of banks: 2 turns each
        {"8 bytes",
         [] { run(doubles_kernel, 1, 32, 1024, (double*)a, 1); },
         {0, 0, 0, 0},
         {1, 8, 8, 2},
         {1, 2, 0},
         no},
        {"8 bytes, stride 2",
         [] { run(doubles_kernel, 1, 32, 1024, (double*)a, 2); },
         {0, 0, 0, 0},
         {1, 8, 8, 2},
         {1, 4, 2},
         no},
        {"A100, 128 bits, case 1",
         [] { run(measured_kernel<4>, 1, 32, 1024, y, 1); },
         none,
         two,
         {1, 2, 0},
         no},
        {"A100, 128 bits, case 2",
         [] { run(measured_kernel<4>, 1, 32, 1024, y, 2); },
         none,
         two,
         {1, 1, 0},
         no},
        {"A100, 128 bits, case 3",
         [] { run(measured_kernel<4>, 1, 32, 1024, y, 3); },
         none,
         all,
         {1, 2, 0},
         no},
        {"A100, 128 bits, case 4",
         [] { run(measured_kernel<4>, 1, 32, 1024, y, 4); },
         none,
         all,
         {1, 4, 0},
         no},
        {"A100, 128 bits, case 5",
         [] { run(measured_kernel<4>, 1, 32, 1024, y, 5); },
         none,
         all,
         {1, 4, 2},
         no},
        {"A100, 64 bits, case 1",
         [] { run(measured_kernel<2>, 1, 32, 1024, y, 6); },
         none,
         all,
         {1, 2, 0},
         no},
        {"A100, 64 bits, case 2",
         [] { run(measured_kernel<2>, 1, 32, 1024, y, 7); },
         none,
         all,
         {1, 1, 0},
         no},
        // rows of 256 bytes, two for a warp: 8 sectors and 2 lines a row; their indices are in one sector
        {"gather of rows",
         [] {
             run(gather_kernel, 2, threads, 0, (Pack<float, 4>*)a, (const Pack<float, 4>*)b, (const int*)row);
         },
         {32, 16 + 256, 16 + 256, 16 + 64},
         {16, 256, 256, 64},
         no,
         no},
        {"a register", [] { run(register_kernel, 1, 32, 0, y, x); }, {1, 4, 4, 1}, {1, 4, 4, 1}, no, no},
        {"aliasing", [] { run(alias_kernel, 1, 32, 0, y, x); }, {2, 8, 8, 2}, {2, 8, 8, 2}, no, no},
        // 16 of 32 neighbours, every second: 4 sectors for 64 useful bytes = 2
        {"divergent loop",
         [] { run(divergent_kernel, 1, 32, 0, y, x); },
         {8, 32, 16, 8},
         {1, 4, 4, 1},
         no,
         no},
        // trip i: lanes i to 31, so sectors i / 8 to 3: 8 (4 + 3 + 2 + 1) = 80; no fewer would do
        {"triangle", [] { run(triangle_kernel, 1, 32, 0, y, x); }, {32, 80, 80, 32}, {1, 4, 4, 1}, no, no},
        // 32 x 16 bytes: 16 sectors of 4 lines; into shared memory 4 phases of 8 lanes, 128 bytes each
        {"cp.async",
         [] { run(async_copy_kernel, 1, 32, 512, y, x); },
         {1, 16, 16, 4},
         {1, 4, 4, 1},
         {1, 1, 0},
         {1, 4, 0}},
        // a phase reads 8 rows of a matrix. Rows of 128 bytes begin in bank 0: 8 turns, without the swizzle
        {"ldmatrix, not swizzled",
         [] { run(matrix_kernel<false>, 1, 32, 4096, (uint32_t*)a); },
         none,
         all,
         {1, 32, 28},
         no},
        {"ldmatrix, swizzled",
         [] { run(matrix_kernel<true>, 1, 32, 4096, (uint32_t*)a); },
         none,
         all,
         {1, 4, 0},
         no},
    };
    return cases;
}

}  // namespace moba
