/* Softmax cross-entropy on the GPU. Contract: loss.h; definition: loss.cpp. */
#include "moba/device.cuh"
#include "moba/loss.h"

static const int large_row = 8192;  // logits from which on a row gets 1024 threads

/* Maps     a thread -> a row of logits. Version 1: loss.cpp, row by row; one thread adds the whole row, so in double */
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

// The largest value so far, where it is, and the sum of e^(z - top). Merging is in fixed order, ties go to the lower index.
struct Running {
    float top, sum;
    int best;
};
__device__ static Running merge(Running a, Running b) {
    const float top = fmaxf(a.top, b.top);
    const bool first = a.top > b.top || (a.top == b.top && a.best < b.best);
    return {top,
            (a.top == top ? a.sum : a.sum * expf(a.top - top)) +
                (b.top == top ? b.sum : b.sum * expf(b.top - top)),
            first ? a.best : b.best};
}

// Of a warp, in every lane.
__device__ static Running merge_warp(Running r) {
    for (int bits = 1; bits < warp_size; bits *= 2) {
        r = merge(r, {__shfl_xor_sync(all_lanes, r.top, bits), __shfl_xor_sync(all_lanes, r.sum, bits),
                      __shfl_xor_sync(all_lanes, r.best, bits)});
    }
    return r;
}

/* Maps     a block of 256 threads, or 1024 where V is large -> a row; a thread -> every 256th (1024th) logit
   Memory   one coalesced read of the row for top and sum together, one for the gradient, from L2 while the rows in flight fit there:
            fewer rows at once with 1024 threads; Running per warp in shared memory
   Sync     one barrier between the warps' results and their merging, which every warp does for itself
   Differs  from 1: the block shares a row; maximum and sum in one pass (running softmax)
   In place dz may be z: a thread reads its logit before it writes there, and z[target] is read before the barrier */
template <class E>
__global__ void __launch_bounds__(1024) loss_kernel2(float* loss, int* correct, E* dz, const float* z,
                                                     const int* target, const StepState* state, LossShape s) {
    __shared__ Running of_warp[1024 / warp_size];
    const int m = blockIdx.x, lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const float* row = z + (size_t)m * s.V;
    const int wanted = target[m];
    if (wanted == ignored) {  // the whole block
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
        } else if (x != -INFINITY) {  // true for NaN, which must not get lost
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

template <class E>
void loss_forward_backward_gpu(const Ctx& ctx, acc_t<E>* loss, int* correct, E* dz, const acc_t<E>* z,
                               const int* target, const StepState* state, LossShape s) {
    const int threads = 256;
    if (choose_version(ctx, 2) == 1) {
        launch(loss_kernel1<E>, blocks_for(s.M, threads), threads, 0, ctx.stream, loss, correct, dz, z,
               target, state, s);
    } else {
        launch(loss_kernel2<E>, s.M, s.V < large_row ? threads : 1024, 0, ctx.stream, loss, correct, dz, z,
               target, state, s);
    }
    LAUNCHED(ctx);
}

#define INSTANTIATE(E)                                                                                       \
    template void loss_forward_backward_gpu(const Ctx&, acc_t<E>*, int*, E*, const acc_t<E>*, const int*,    \
                                            const StepState*, LossShape);
INSTANTIATE(float)
INSTANTIATE(bf16)
