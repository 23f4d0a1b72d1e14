/* Prefix sums, and a stable radix sort by 8-bit digits. Contract: sort.cuh. */
#include "moba/core/sort.cuh"
#include <algorithm>

namespace moba {

namespace {

const int digit_bits = 8, digits = 1 << digit_bits;          // digits: also the threads of a block
const int chunk = 2048;                                      // elements per thread block
const int warps = 8, batches = chunk / (warps * warp_size);  // a warp's elements: `batches` times 32
const int scan_tile = 1024, scan_batches = 8;  // counts per warp; batches of 32 of them in flight together
const size_t together = 1 << 24;               // elements of all rows that one launch sorts, or one row

// All arrays are (rows, n). Grid x -> a chunk of a row, grid y -> a row.
struct SortPass {
    const int *key, *element;  // element = null stands for 0, 1, 2, ...
    int *key_out, *element_out;
    int n, bins, shift;
};

// A key outside [0, bins) is treated as the key `bins`, so it is sorted to the end.
__device__ int digit_of(const SortPass& p, int key) {
    return (key >= 0 && key < p.bins ? key : p.bins) >> p.shift & (digits - 1);
}

/* Counts the digits of the warp's next 32 elements, one per lane. Returns how many earlier elements of the
   warp have the same digit as this lane's element. Lanes with equal digits find each other with ballots; the
   first of them adds for all of them. */
__device__ int count_batch(int* count, int digit, bool here) {
    const unsigned below = (1u << threadIdx.x % warp_size) - 1;
    unsigned same = __ballot_sync(all_lanes, here);  // becomes the lanes with the same digit
#pragma unroll
    for (int bit = 0; bit < digit_bits; bit++) {
        const unsigned set = __ballot_sync(all_lanes, digit >> bit & 1);
        same &= digit >> bit & 1 ? set : ~set;
    }
    const int before = count[digit], rank = __popc(same & below);
    __syncwarp();
    if (here && rank == 0) { count[digit] = before + __popc(same); }
    __syncwarp();
    return before + rank;
}

/* The elements of one thread: a warp has 256 neighbouring elements, a lane every 32nd of them. All loads are
   issued before the first value is used. */
struct Elements {
    int key[batches], rank[batches];

    __device__ static int index(int i) {
        return blockIdx.x * chunk + (threadIdx.x / warp_size * batches + i) * warp_size +
               threadIdx.x % warp_size;
    }
    __device__ void load(const SortPass& p) {
#pragma unroll
        for (int i = 0; i < batches; i++) {
            key[i] = index(i) < p.n ? p.key[(size_t)blockIdx.y * p.n + index(i)] : 0;
        }
    }
    // Sets the counts to zero, then counts the digits of each warp's elements.
    __device__ void count(int (&count)[warps][digits], const SortPass& p) {
        for (int w = 0; w < warps; w++) { count[w][threadIdx.x] = 0; }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < batches; i++) {
            rank[i] = count_batch(count[threadIdx.x / warp_size], digit_of(p, key[i]), index(i) < p.n);
        }
        __syncthreads();
    }
};

}  // namespace

/* count[row, digit, chunk] = elements of the chunk with this digit
   Maps     a block of 8 warps -> a chunk, a warp -> 256 elements; then a thread -> a digit
   Memory   every warp has separate counts in shared memory, so no atomics are needed
   Sync     a barrier after the counts are set to zero, and one before they are added up; within a batch, the
            __syncwarp of count_batch */
__global__ static void __launch_bounds__(digits) histogram_kernel(int* count, SortPass p) {
    __shared__ int counts[warps][digits];  // elements of a warp with a digit
    Elements mine;
    mine.load(p);
    mine.count(counts, p);
    int sum = 0;
    for (int w = 0; w < warps; w++) { sum += counts[w][threadIdx.x]; }
    count[((size_t)blockIdx.y * digits + threadIdx.x) * gridDim.x + blockIdx.x] = sum;
}

/* sum[tile] = the sum of the counts in a tile
   Maps     a warp -> a tile, a lane -> every 32nd count */
__global__ static void tile_sums_kernel(int* sum, const int* count, size_t n) {
    const size_t tile = blockIdx.x * (blockDim.x / warp_size) + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    const size_t begin = tile * scan_tile, end = min(n, begin + scan_tile);
    int total = 0;
    for (size_t i = begin + lane; i < end; i += warp_size) { total += count[i]; }
    total = warp_sum(total);
    if (lane == 0 && begin < n) { sum[tile] = total; }
}

/* Replaces each count by its exclusive prefix sum: before_tile[tile] (0 if null) plus the counts before it in
   its tile
   Maps     a warp -> a tile, 8 batches of 32 counts at a time; a lane -> one count of each batch
   Sync     only the shuffles; the scans of the 8 batches are independent */
__global__ static void scan_tiles_kernel(int* count, const int* before_tile, size_t n) {
    const size_t tile = blockIdx.x * (blockDim.x / warp_size) + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    const size_t begin = tile * scan_tile, end = min(n, begin + scan_tile);
    int before = before_tile && begin < n ? before_tile[tile] : 0;
    for (size_t first = begin + lane; first - lane < end; first += scan_batches * warp_size) {
        int here[scan_batches], sum[scan_batches];
#pragma unroll
        for (int j = 0; j < scan_batches; j++) {
            const size_t i = first + j * warp_size;
            here[j] = sum[j] = i < end ? count[i] : 0;
        }
#pragma unroll
        for (int lanes = 1; lanes < warp_size; lanes *= 2) {
#pragma unroll
            for (int j = 0; j < scan_batches; j++) {
                const int x = __shfl_up_sync(all_lanes, sum[j], lanes);
                sum[j] += lane >= lanes ? x : 0;
            }
        }
#pragma unroll
        for (int j = 0; j < scan_batches; j++) {
            const size_t i = first + j * warp_size;
            if (i < end) { count[i] = before + sum[j] - here[j]; }
            before += __shfl_sync(all_lanes, sum[j], warp_size - 1);
        }
    }
}

// Ints of workspace for a prefix sum: the sums of all tiles, then the sums of tiles of these sums, and so on.
static size_t scan_ints(size_t n) {
    const size_t tiles = ceil_div(n, (size_t)scan_tile);
    return tiles <= 1 ? 0 : round_up(tiles, align_ints) + scan_ints(tiles);
}

static void prefix_sum(const Ctx& ctx, int* count, size_t n, int* sums) {
    const size_t tiles = ceil_div(n, (size_t)scan_tile);
    const int threads = 128;
    const unsigned blocks = blocks_for(tiles, threads / warp_size);
    if (n == 0) { return; }
    if (tiles > 1) {
        launch(tile_sums_kernel, blocks, threads, 0, ctx.stream, sums, count, n);
        LAUNCHED(ctx);
        prefix_sum(ctx, sums, tiles, sums + round_up(tiles, align_ints));
    }
    launch(scan_tiles_kernel, blocks, threads, 0, ctx.stream, count, tiles > 1 ? sums : nullptr, n);
    LAUNCHED(ctx);
}

size_t prefix_sum_workspace_bytes(size_t n) { return scan_ints(n) * sizeof(int); }

void prefix_sum_gpu(const Ctx& ctx, int* count, size_t n) {
    REQUIRE(prefix_sum_workspace_bytes(n) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    prefix_sum(ctx, count, n, (int*)ctx.workspace);
}

/* Writes elements to their sorted places. The elements of a chunk with one digit go to place[row, digit,
   chunk] and the places after it, in the order of the chunk. Every row has n elements, so a prefix sum over
   the counts of all rows gives places in the array (rows, n).
   Maps     as in histogram_kernel; then a thread -> a digit, to find where each warp's elements begin
   Memory   elements stay in registers between counting and writing
   Sync     as in histogram_kernel, and a barrier after all these starts are written to `counts` */
__global__ static void __launch_bounds__(digits) scatter_kernel(const int* place, SortPass p) {
    // (warp, digit): first the number of the warp's elements with the digit, then where they go.
    __shared__ int counts[warps][digits];
    Elements mine;
    int element[batches];
    mine.load(p);
#pragma unroll
    for (int i = 0; i < batches; i++) {
        const int at = mine.index(i);
        element[i] = p.element && at < p.n ? p.element[(size_t)blockIdx.y * p.n + at] : at;
    }
    mine.count(counts, p);
    int next = place[((size_t)blockIdx.y * digits + threadIdx.x) * gridDim.x + blockIdx.x];
    for (int w = 0; w < warps; w++) {
        const int count = counts[w][threadIdx.x];
        counts[w][threadIdx.x] = next;
        next += count;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < batches; i++) {
        if (mine.index(i) < p.n) {
            const int to = counts[threadIdx.x / warp_size][digit_of(p, mine.key[i])] + mine.rank[i];
            p.key_out[to] = mine.key[i];
            p.element_out[to] = element[i];
        }
    }
}

/* start[row, k] = the first place in the row whose key is at least k
   Maps     a thread -> a bin, grid y -> a row */
__global__ static void start_kernel(int* start, const int* sorted, int n, int bins) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k > bins) { return; }
    const int* key = sorted + (size_t)blockIdx.y * n;
    start[blockIdx.y * (bins + (size_t)1) + k] =
        lower_bound_index(n, [=](int i) { return key[i] >= 0 && key[i] < min(k, bins); });
}

static int passes_for(int bins) { return bins < digits ? 1 : bins < digits * digits ? 2 : 3; }

// Bytes for: counts (rows, 256, chunks), two arrays of keys, one array of elements, and the prefix sum.
static size_t workspace_for(size_t counts, size_t elements) {
    return (counts + 3 * round_up(elements, align_ints) + scan_ints(counts)) * sizeof(int);
}
// Many rows are sorted in one launch. The result never falls when n or rows grow.
size_t sort_workspace_bytes(size_t n, int, int rows) {
    const size_t elements = std::min(n * rows, std::max(n, together));
    return workspace_for((elements / chunk + rows) * digits, elements);
}

static void sort_rows(const Ctx& ctx, int* start, int* list, const int* key, size_t n, int bins, int rows) {
    const dim3 grid(blocks_for(n, chunk), rows);
    const size_t counts = (size_t)grid.x * rows * digits, padded = round_up(n * rows, align_ints);
    int* count = (int*)ctx.workspace;
    int* keys[] = {count + counts, count + counts + padded};
    int* other = keys[1] + padded;  // elements, alternating with list; the last pass writes to list
    int* sums = other + padded;
    const int passes = passes_for(bins);
    SortPass p{key, nullptr, nullptr, nullptr, (int)n, bins, 0};
    for (int pass = 0; pass < passes && n > 0; pass++) {
        p.key_out = keys[pass % 2];
        p.element_out = (passes - 1 - pass) % 2 ? other : list;
        p.shift = digit_bits * pass;
        launch(histogram_kernel, grid, digits, 0, ctx.stream, count, p);
        LAUNCHED(ctx);
        prefix_sum(ctx, count, counts, sums);
        launch(scatter_kernel, grid, digits, 0, ctx.stream, count, p);
        LAUNCHED(ctx);
        p.key = p.key_out;
        p.element = p.element_out;
    }
    const int threads = 256;
    launch(start_kernel, dim3(blocks_for((size_t)bins + 1, threads), rows), threads, 0, ctx.stream, start,
           p.key, (int)n, bins);
    LAUNCHED(ctx);
}

void sort_by_key_gpu(const Ctx& ctx, int* start, int* list, const int* key, size_t n, int bins, int rows) {
    REQUIRE(n < (1ull << 31) - chunk && bins >= 1 && bins < 1 << 24 && rows >= 1,
            "%d rows of %zu keys of %d bins", rows, n, bins);
    const auto bytes = [&](int step) {
        return workspace_for(ceil_div(n, (size_t)chunk) * step * digits, n * step);
    };
    int step = std::min(rows, 65535);
    while (step > 1 && (bytes(step) > ctx.workspace_bytes || n * step >= 1ull << 31)) { step--; }
    REQUIRE(bytes(step) <= ctx.workspace_bytes, "workspace of %zu bytes", ctx.workspace_bytes);
    for (int row = 0; row < rows; row += step) {
        sort_rows(ctx, start + row * (bins + (size_t)1), list + row * n, key + row * n, n, bins,
                  std::min(step, rows - row));
    }
}

}  // namespace moba
