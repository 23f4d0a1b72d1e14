/* Prefix sums, and stable counting sort by 8-bit digits. Contract: sort.cuh. */
#include "moba/sort.cuh"
#include <algorithm>

static const int digits = 256, chunk = 2048;  // elements of one warp
static const int scan_tile = 1024;            // counts of one warp
static const size_t together = 1 << 21;       // elements of several rows

// All arrays (rows, n). Grid x -> a chunk of a row, grid y -> a row
struct SortPass {
    const int *key, *element;  // element null: 0, 1, 2, ...
    int *key_out, *element_out;
    int n, bins, shift;
};

// Keys outside [0, bins) become the last one.
__device__ static int digit_of(const SortPass& p, int i) {
    const int k = p.key[(size_t)blockIdx.y * p.n + i];
    return (k >= 0 && k < p.bins ? k : p.bins) >> p.shift & (digits - 1);
}

/* count[row, digit, chunk] = elements of the chunk with this digit
   Maps     a block of 256 threads -> a chunk, a thread -> a digit for the counting, a batch of elements for the loading
   Memory   the chunk's digits in shared memory, read by every thread in the same order (a broadcast)
   Sync     the digits are all there before anybody counts */
__global__ static void histogram_kernel(int* count, SortPass p) {
    __shared__ int digit[chunk];
    const int begin = blockIdx.x * chunk, size = min(chunk, p.n - begin);
    for (int i = threadIdx.x; i < size; i += blockDim.x) { digit[i] = digit_of(p, begin + i); }
    __syncthreads();
    int mine = 0;
    for (int i = 0; i < size; i++) { mine += digit[i] == (int)threadIdx.x; }
    count[((size_t)blockIdx.y * digits + threadIdx.x) * gridDim.x + blockIdx.x] = mine;
}

/* sum[tile] = the sum of a tile of counts. Maps: a warp -> a tile, a lane -> every 32nd count */
__global__ static void tile_sums_kernel(int* sum, const int* count, size_t n) {
    const size_t tile = blockIdx.x * (blockDim.x / warp_size) + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    const size_t begin = tile * scan_tile, end = min(n, begin + scan_tile);
    int total = 0;
    for (size_t i = begin + lane; i < end; i += warp_size) { total += count[i]; }
    for (int bits = warp_size / 2; bits > 0; bits /= 2) { total += __shfl_xor_sync(all_lanes, total, bits); }
    if (lane == 0 && begin < n) { sum[tile] = total; }
}

/* count becomes its exclusive prefix sum, over what stands before its tile (null: nothing)
   Maps     a warp -> a tile, 32 counts at a time, a lane -> one of them
   Sync     none beyond the shuffles */
__global__ static void scan_tiles_kernel(int* count, const int* before_tile, size_t n) {
    const size_t tile = blockIdx.x * (blockDim.x / warp_size) + threadIdx.x / warp_size;
    const int lane = threadIdx.x % warp_size;
    const size_t begin = tile * scan_tile, end = min(n, begin + scan_tile);
    int before = before_tile && begin < n ? before_tile[tile] : 0;
    for (size_t first = begin; first < end; first += warp_size) {
        const size_t i = first + lane;
        const int here = i < end ? count[i] : 0;
        int sum = here;
        for (int lanes = 1; lanes < warp_size; lanes *= 2) {
            const int x = __shfl_up_sync(all_lanes, sum, lanes);
            sum += lane >= lanes ? x : 0;
        }
        if (i < end) { count[i] = before + sum - here; }
        before += __shfl_sync(all_lanes, sum, warp_size - 1);
    }
}

// Ints of workspace: the sums of all tiles, then the sums of their tiles, ...
static size_t scan_ints(size_t n) {
    const size_t tiles = ceil_div(n, (size_t)scan_tile);
    return tiles <= 1 ? 0 : round_up(tiles, (size_t)64) + scan_ints(tiles);
}

static void prefix_sum(const Ctx& ctx, int* count, size_t n, int* sums) {
    const size_t tiles = ceil_div(n, (size_t)scan_tile);
    const int threads = 128;
    const unsigned blocks = blocks_for(tiles, threads / warp_size);
    if (n == 0) { return; }
    if (tiles > 1) {
        launch(tile_sums_kernel, blocks, threads, 0, ctx.stream, sums, count, n);
        LAUNCHED(ctx);
        prefix_sum(ctx, sums, tiles, sums + round_up(tiles, (size_t)64));
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

/* Elements to their places: place[row, digit, chunk] and on, in the order in which they stand in the chunk. Every row counts
   n elements, so places summed over all rows are places in (rows, n).
   Maps     a block of one warp -> a chunk, 32 elements at a time, a lane -> one of them
   Sync     __syncwarp between reading the next free place of a digit and moving it on, and before the next batch reads it */
__global__ static void scatter_kernel(const int* place, SortPass p) {
    __shared__ int next[digits];
    const int lane = threadIdx.x, begin = blockIdx.x * chunk, end = min(p.n, begin + chunk);
    for (int d = lane; d < digits; d += warp_size) {
        next[d] = place[((size_t)blockIdx.y * digits + d) * gridDim.x + blockIdx.x];
    }
    __syncwarp();
    for (int first = begin; first < end; first += warp_size) {
        const int i = first + lane;
        const bool here = i < end;
        const int d = here ? digit_of(p, i) : 0;
        unsigned same = __ballot_sync(all_lanes, here);  // lanes with my digit
        for (int bit = 0; bit < 8; bit++) {
            const unsigned set = __ballot_sync(all_lanes, d >> bit & 1);
            same &= d >> bit & 1 ? set : ~set;
        }
        const int rank = __popc(same & ((1u << lane) - 1));
        const int to = here ? next[d] + rank : 0;
        __syncwarp();
        if (here && rank == 0) { next[d] += __popc(same); }
        __syncwarp();
        if (here) {
            const size_t from = (size_t)blockIdx.y * p.n + i;
            p.key_out[to] = p.key[from];
            p.element_out[to] = p.element ? p.element[from] : i;
        }
    }
}

/* start[row, k] = the first place of the row whose key is at least k. Maps: a thread -> a bin, grid y -> a row */
__global__ static void start_kernel(int* start, const int* sorted, int n, int bins) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k > bins) { return; }
    const int* key = sorted + (size_t)blockIdx.y * n;
    int low = 0, high = n;
    while (low < high) {
        const int middle = (int)(((unsigned)low + high) / 2), at = key[middle];
        if (at >= 0 && at < min(k, bins)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    start[blockIdx.y * (bins + (size_t)1) + k] = low;
}

static int passes_for(int bins) { return bins < 1 << 8 ? 1 : bins < 1 << 16 ? 2 : 3; }

// Elements sorted at once: short rows go together, so that there are few launches; not more, as the workspace is as large.
static size_t most_at_once(size_t n, size_t rows) { return std::min(n * rows, std::max(n, together)); }

// Workspace: counts (rows, 256, chunks); keys twice; elements once; what the prefix sum needs. Never less for more of n or rows
size_t sort_workspace_bytes(size_t n, int, int rows) {
    const size_t elements = most_at_once(n, rows), counts = (elements / chunk + rows) * digits;
    return (counts + 3 * round_up(elements, (size_t)64) + scan_ints(counts)) * sizeof(int);
}

static void sort_rows(const Ctx& ctx, int* start, int* list, const int* key, size_t n, int bins, int rows) {
    const dim3 grid(blocks_for(n, chunk), rows);
    const size_t counts = (size_t)grid.x * rows * digits, padded = round_up(n * rows, (size_t)64);
    int* count = (int*)ctx.workspace;
    int* keys[] = {count + counts, count + counts + padded};
    int* other = keys[1] + padded;  // elements; the last pass writes into list
    int* sums = other + padded;
    const int passes = passes_for(bins);
    SortPass p{key, nullptr, nullptr, nullptr, (int)n, bins, 0};
    for (int pass = 0; pass < passes && n > 0; pass++) {
        p.key_out = keys[pass % 2];
        p.element_out = (passes - 1 - pass) % 2 ? other : list;
        p.shift = 8 * pass;
        launch(histogram_kernel, grid, digits, 0, ctx.stream, count, p);
        LAUNCHED(ctx);
        prefix_sum(ctx, count, counts, sums);
        launch(scatter_kernel, grid, warp_size, 0, ctx.stream, count, p);
        LAUNCHED(ctx);
        p.key = p.key_out;
        p.element = p.element_out;
    }
    launch(start_kernel, dim3(blocks_for((size_t)bins + 1, 256), rows), 256, 0, ctx.stream, start, p.key,
           (int)n, bins);
    LAUNCHED(ctx);
}

void sort_by_key_gpu(const Ctx& ctx, int* start, int* list, const int* key, size_t n, int bins, int rows) {
    REQUIRE(n < (1ull << 31) - chunk && bins >= 1 && bins < 1 << 24 && rows >= 1,
            "%d rows of %zu keys of %d bins", rows, n, bins);
    REQUIRE(sort_workspace_bytes(n, bins, rows) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    const int step = n ? (int)std::min(most_at_once(n, rows) / n, (size_t)65535) : 1;
    for (int row = 0; row < rows; row += step) {
        sort_rows(ctx, start + row * (bins + (size_t)1), list + row * n, key + row * n, n, bins,
                  std::min(step, rows - row));
    }
}
