/* Embedding on the GPU. Contract: embedding.h; definition: embedding.cpp. */
#include "moba/core/sort.cuh"
#include "moba/ops/embedding.h"
#include "moba/ops/rows.h"
#include <algorithm>

namespace moba {

/* dw[token[m],c] += dy[m,c], m by m
   Maps     a thread -> a column, for all tokens one after another. Threads never write the same element; only
            C threads run */
template <class E>
__global__ void embedding_backward_kernel1(float* dw, const int* token, const E* dy, EmbeddingShape s) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= s.C) { return; }
    for (int m = 0; m < s.M; m++) { dw[(size_t)token[m] * s.C + c] += (float)dy[(size_t)m * s.C + c]; }
}

/* dw[v,c] += sum of dy[m,c] over the tokens m in the list of v, in the order of the list
   Maps     grid y -> a row v, a thread -> a column
   Differs  from 1: tokens are sorted first, so all rows are computed in parallel; each row still adds in
            order of m */
template <class E>
__global__ void embedding_backward_kernel2(float* dw, const int* start, const int* list, const E* dy,
                                           EmbeddingShape s) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= s.C) { return; }
    for (int v = blockIdx.y; v < s.V; v += gridDim.y) {
        if (start[v] == start[v + 1]) { continue; }
        float sum = dw[(size_t)v * s.C + c];
        for (int i = start[v]; i < start[v + 1]; i++) { sum += (float)dy[(size_t)list[i] * s.C + c]; }
        dw[(size_t)v * s.C + c] = sum;
    }
}

// Workspace: `start`, `list`, and the workspace of the sort.
size_t embedding_workspace_bytes_gpu(EmbeddingShape s) {
    return (round_up((size_t)s.V + 1, align_ints) + round_up((size_t)s.M, align_ints)) * sizeof(int) +
           sort_workspace_bytes(s.M, s.V);
}

template <class E>
void embedding_forward_gpu(const Ctx& ctx, E* y, const int* token, const E* w, EmbeddingShape s) {
    gather_rows_gpu(ctx, y, w, token, {s.M, s.V, s.C});
}

template <class E>
void embedding_backward_gpu(const Ctx& ctx, acc_t<E>* dw, const int* token, const E* dy, EmbeddingShape s) {
    const int threads = 128;
    const unsigned columns = blocks_for(s.C, threads);
    if (choose_version(ctx, 2) == 1) {
        launch(embedding_backward_kernel1<E>, columns, threads, 0, ctx.stream, dw, token, dy, s);
        LAUNCHED(ctx);
        return;
    }
    REQUIRE(embedding_workspace_bytes_gpu(s) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    int* start = (int*)ctx.workspace;
    int* list = start + round_up((size_t)s.V + 1, align_ints);
    Ctx sorting = ctx;
    sorting.workspace = (char*)(list + round_up((size_t)s.M, align_ints));
    sorting.workspace_bytes = ctx.workspace + ctx.workspace_bytes - sorting.workspace;
    sort_by_key_gpu(sorting, start, list, token, s.M, s.V);
    launch(embedding_backward_kernel2<E>, dim3(columns, std::min(s.V, 65535)), threads, 0, ctx.stream, dw,
           start, list, dy, s);
    LAUNCHED(ctx);
}

INSTANTIATE(embedding_forward_gpu)
INSTANTIATE(embedding_backward_gpu)

}  // namespace moba
