/* Softmax cross-entropy on the GPU. Contract: loss.h; definition: loss.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/loss.h"

namespace moba {

// Threads per row in versions 2 and 3: large_block if a row has at least large_row logits, else small_block.
constexpr int small_block = 256, large_block = 1024, large_row = 8192;

/* Version 1: the same steps as loss.cpp
   Maps     a thread -> a row of logits. One thread adds the whole row, so the sum is in double */
template <class E>
__global__ void loss_kernel1(float* loss, int* correct, E* dz, const float* z, const int* target,
                             const StepState* state, LossShape s) {
    const int m = blockIdx.x * blockDim.x + threadIdx.x;
    if (m >= s.M) { return; }
    const float* row = z + (size_t)m * s.V;
    const int wanted = target[m];
    if (wanted == ignored) {
        loss[m] = 0;
        correct[m] = 0;
        for (int v = 0; dz && v < s.V; v++) { dz[(size_t)m * s.V + v] = E(0.f); }
        return;
    }
    int best = 0;
    for (int v = 1; v < s.V; v++) {
        if (row[v] > row[best]) { best = v; }
    }
    double sum = 0;
    const float top = row[best];
    for (int v = 0; v < s.V; v++) { sum += expf(row[v] - top); }
    correct[m] = best == wanted;
    loss[m] = (float)log(sum) + top - row[wanted];
    const float scale = (float)state->loss_scale, share = (float)(1 / sum);
    for (int v = 0; dz && v < s.V; v++) {
        const float p = expf(row[v] - top) * share;
        dz[(size_t)m * s.V + v] = E((v == wanted ? p - 1 : p) * scale);
    }
}

namespace {

// Running softmax: the largest value so far, its index, and the sum of e^(z - top). The order of merging is
// fixed; of equal values the one with the lower index is `best`.
struct Running {
    float top, sum;
    int best;
};
__device__ Running merge(Running a, Running b) {
    const float top = fmaxf(a.top, b.top);
    const bool first = a.top > b.top || (a.top == b.top && a.best < b.best);
    return {top,
            (a.top == top ? a.sum : a.sum * expf(a.top - top)) +
                (b.top == top ? b.sum : b.sum * expf(b.top - top)),
            first ? a.best : b.best};
}

// Merges the values of a warp; every lane gets the result.
__device__ Running merge_warp(Running r) {
    for (int bits = 1; bits < warp_size; bits *= 2) {
        r = merge(r, {__shfl_xor_sync(all_lanes, r.top, bits), __shfl_xor_sync(all_lanes, r.sum, bits),
                      __shfl_xor_sync(all_lanes, r.best, bits)});
    }
    return r;
}

}  // namespace

/* Maps     a block of 256 threads, or 1024 if V is large -> a row; a thread -> every 256th (1024th) logit
   Memory   one coalesced read of the row for maximum and sum together, and one for the gradient. The second
            read comes from L2 if all rows that run at the same time fit there; with 1024 threads per row
            these are fewer. One Running per warp in shared memory
   Sync     one barrier after the warps have stored their results; then every warp merges all of them
   Differs  from 1: a block works on one row; maximum and sum in one pass (running softmax)
   In place dz may be z: a thread reads its logit before it writes there; z[target] is read before the
   barrier */
template <class E>
__global__ void __launch_bounds__(large_block)
    loss_kernel2(float* loss, int* correct, E* dz, const float* z, const int* target, const StepState* state,
                 LossShape s) {
    __shared__ Running of_warp[large_block / warp_size];  // each warp's result
    const int m = blockIdx.x, lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const float* row = z + (size_t)m * s.V;
    const int wanted = target[m];
    if (wanted == ignored) {  // the same for the whole block
        if (threadIdx.x == 0) {
            loss[m] = 0;
            correct[m] = 0;
        }
        for (int v = threadIdx.x; dz && v < s.V; v += blockDim.x) { dz[(size_t)m * s.V + v] = E(0.f); }
        return;
    }
    Running r{-INFINITY, 0, s.V};
    for (int v = threadIdx.x; v < s.V; v += blockDim.x) {
        const float x = row[v];
        if (x > r.top) {
            r = {x, r.sum * expf(r.top - x) + 1, v};
        } else if (x != -INFINITY) {  // true for NaN too, so that NaN reaches the sum
            r.sum += expf(x - r.top);
        }
    }
    const float at_target = row[wanted];
    r = merge_warp(r);
    if (lane == 0) { of_warp[warp] = r; }
    __syncthreads();
    r = merge_warp(lane < (int)blockDim.x / warp_size ? of_warp[lane] : Running{-INFINITY, 0, s.V});
    if (threadIdx.x == 0) {
        correct[m] = r.best == wanted;
        loss[m] = logf(r.sum) + r.top - at_target;
    }
    const float scale = (float)state->loss_scale, share = 1 / r.sum;
    for (int v = threadIdx.x; dz && v < s.V; v += blockDim.x) {
        const float p = expf(row[v] - r.top) * share;
        dz[(size_t)m * s.V + v] = E((v == wanted ? p - 1 : p) * scale);
    }
}

namespace {

/* A thread's part of a row: the largest logit so far, the sum of e^(z - top), and `lost`: true if some logit
   is larger than the target's, or equal to it with a lower index. So the index of the largest logit need not
   be stored. */
struct Share {
    float top, sum;
    bool lost;
};

/* The value subtracted from logits in exponentials: the largest logit. If all are -inf it is 0, so that the
   sum is 0 and not NaN. */
__device__ float base_of(float top) { return top == -INFINITY ? 0.f : top; }

/* Adds N logits to r. The first four have the indices v .. v+3; each next four are `apart` further. */
template <int N>
__device__ Share add_logits(Share r, const float (&x)[N], int v, int apart, float at_target, int wanted) {
    float top = x[0];
#pragma unroll
    for (int j = 1; j < N; j++) { top = fmaxf(top, x[j]); }
    if (!r.lost && top >= at_target) {
#pragma unroll
        for (int j = 0; j < N; j++) {
            r.lost |= (x[j] > at_target) | ((x[j] == at_target) & (v + j / 4 * apart + j % 4 < wanted));
        }
    }
    top = fmaxf(r.top, top);
    const float base = base_of(top);
    float sum = r.sum * expf(r.top - base);
#pragma unroll
    for (int j = 0; j < N; j++) { sum += expf(x[j] - base); }
    return {top, sum, r.lost};
}

// Merges the values of a warp; every lane gets the result.
__device__ Share merge_warp(Share r) {
    float top = r.top;
    for (int bits = warp_size / 2; bits > 0; bits /= 2) {
        top = fmaxf(top, __shfl_xor_sync(all_lanes, top, bits));
    }
    return {top, warp_sum(r.sum * expf(r.top - base_of(top))), __ballot_sync(all_lanes, r.lost) != 0};
}

/* Loads `batch` packs of four logits: `pack`, pack + threads, ... All loads are in flight together. Past the
   last pack of the row the first one is loaded again, because a branch would make the loads wait. */
constexpr int batch = 4;
template <int threads>
__device__ void load_logits(float (&x)[4 * batch], const float* z, int pack, int packs) {
#pragma unroll
    for (int b = 0; b < batch; b++) {
        const int at = pack + b * threads;
        const Pack<float, 4> four = load_pack<float, 4>(z + 4 * (size_t)(at < packs ? at : pack));
#pragma unroll
        for (int j = 0; j < 4; j++) { x[4 * b + j] = four.at[j]; }
    }
}

}  // namespace

/* Maps     a block of 256 threads, or 1024 if V is large -> a row; a thread -> every 256th (1024th) pack of 4
            logits. A row need not start at a multiple of 16 bytes: up to 3 logits before the first whole pack
            and up to 3 after the last one are handled by one thread each
   Memory   16-byte loads in both passes, 4 per thread in flight; dz is stored in packs of 4. A block of 1024
            threads with more than 32 registers each fills an SM, so an SM works on one row at a time. With
            V = 50304 the 132 rows on an H100 take 27 MB; its L2 (50 MB) still holds them for the second read
   Sync     one barrier after the warps have stored their results; then every warp merges all of them
   Differs  from 2: packs; the largest of 16 logits is found before their exponentials are added, so there is
            one exponential per logit and no branch
   In place dz may be z: a thread reads its logits before it writes there; z[target] is read before the
   barrier
   Needs    16-byte aligned z and dz; any V */
template <class E, int threads>
__global__ void __launch_bounds__(threads)
    loss_kernel3(float* loss, int* correct, E* dz, const float* z, const int* target, const StepState* state,
                 LossShape s) {
    __shared__ Share of_warp[threads / warp_size];  // each warp's result
    const int m = blockIdx.x, lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const size_t row = (size_t)m * s.V;
    const int head = min(s.V, (int)((4 - row % 4) % 4)), packs = (s.V - head) / 4, tail = head + 4 * packs;
    // The single logit of this thread outside the packs, in the head or in the tail; none if edge >= V.
    const int edge = (int)threadIdx.x < head ? (int)threadIdx.x : tail + (int)threadIdx.x - head;
    const float* first = z + row + head;
    // A pointer to packs, because nvcc would split the stores of store_pack(dz + ...).
    Pack<E, 4>* out = (Pack<E, 4>*)(dz ? dz + row + head : nullptr);
    const int wanted = target[m];
    if (wanted == ignored) {  // the same for the whole block
        if (threadIdx.x == 0) {
            loss[m] = 0;
            correct[m] = 0;
        }
        if (!dz) { return; }
        if (edge < s.V) { dz[row + edge] = E(0.f); }
        for (int p = threadIdx.x; p < packs; p += threads) { out[p] = round_pack<E>(Pack<float, 4>{}); }
        return;
    }
    const float at_target = z[row + wanted];
    const float at_edge[1] = {edge < s.V ? z[row + edge] : -INFINITY};
    Share r{-INFINITY, 0, false};
    for (int p = threadIdx.x; p < packs; p += batch * threads) {
        float x[4 * batch];
        load_logits<threads>(x, first, p, packs);
#pragma unroll
        for (int j = 4; j < 4 * batch; j++) {
            if (p + j / 4 * threads >= packs) { x[j] = -INFINITY; }  // adds 0 to the sum
        }
        r = add_logits(r, x, head + 4 * p, 4 * threads, at_target, wanted);
    }
    r = merge_warp(add_logits(r, at_edge, edge, 0, at_target, wanted));
    if (lane == 0) { of_warp[warp] = r; }
    __syncthreads();
    r = merge_warp(lane < threads / warp_size ? of_warp[lane] : Share{-INFINITY, 0, false});
    if (threadIdx.x == 0) {
        correct[m] = at_target == r.top && !r.lost;
        loss[m] = logf(r.sum) + r.top - at_target;
    }
    if (!dz) { return; }
    const float scale = (float)state->loss_scale, share = scale / r.sum, base = base_of(r.top);
    const auto gradient = [=](float x, int v) {
        return fmaf(expf(x - base), share, v == wanted ? -scale : 0.f);
    };
    if (edge < s.V) { dz[row + edge] = E(gradient(at_edge[0], edge)); }
    for (int p = threadIdx.x; p < packs; p += batch * threads) {
        float x[4 * batch];
        load_logits<threads>(x, first, p, packs);
#pragma unroll
        for (int b = 0; b < batch; b++) {
            const int at = p + b * threads;
            if (at >= packs) { break; }
            Pack<float, 4> d;
#pragma unroll
            for (int j = 0; j < 4; j++) { d.at[j] = gradient(x[4 * b + j], head + 4 * at + j); }
            out[at] = round_pack<E>(d);
        }
    }
}

template <class E>
void loss_forward_backward_gpu(const Ctx& ctx, acc_t<E>* loss, int* correct, E* dz, const acc_t<E>* z,
                               const int* target, const StepState* state, LossShape s) {
    const int version = choose_version(ctx, packable<acc_t<E>>(4, {z, dz}) ? 3 : 2);
    const bool large = s.V >= large_row;
    if (version == 1) {
        launch(loss_kernel1<E>, blocks_for(s.M, small_block), small_block, 0, ctx.stream, loss, correct, dz,
               z, target, state, s);
    } else if (version == 2) {
        launch(loss_kernel2<E>, s.M, large ? large_block : small_block, 0, ctx.stream, loss, correct, dz, z,
               target, state, s);
    } else {
        launch(large ? loss_kernel3<E, large_block> : loss_kernel3<E, small_block>, s.M,
               large ? large_block : small_block, 0, ctx.stream, loss, correct, dz, z, target, state, s);
    }
    LAUNCHED(ctx);
}

INSTANTIATE(loss_forward_backward_gpu)

}  // namespace moba
