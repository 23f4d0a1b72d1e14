/* Embedding on the GPU. Contract: embedding.h; definition: embedding.cpp. */
#include "moba/core/arena.h"
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

namespace {

// The tokens sorted by their row of dw, as kernel 2 reads them, and the workspace of the sort.
struct SortedTokens {
    int* start;  // (V + 1)
    int* list;   // (M)
    size_t sort_bytes;
    char* sort;  // (sort_bytes)

    SortedTokens(BumpAllocator& a, EmbeddingShape s)
        : start(a.take<int>((size_t)s.V + 1)), list(a.take<int>(s.M)),
          sort_bytes(sort_workspace_bytes(s.M, s.V)), sort(a.take<char>(sort_bytes)) {}
};

}  // namespace

size_t embedding_workspace_bytes_gpu(EmbeddingShape s) { return layout_bytes<SortedTokens>(s); }

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
    const SortedTokens sorted = lay_out_workspace<SortedTokens>(ctx, s);
    Ctx sorting = ctx;
    sorting.workspace = sorted.sort, sorting.workspace_bytes = sorted.sort_bytes;
    sort_by_key_gpu(sorting, sorted.start, sorted.list, token, s.M, s.V);
    launch(embedding_backward_kernel2<E>, dim3(columns, std::min(s.V, 65535)), threads, 0, ctx.stream, dw,
           sorted.start, sorted.list, dy, s);
    LAUNCHED(ctx);
}

INSTANTIATE(embedding_forward_gpu)
INSTANTIATE(embedding_backward_gpu)

}  // namespace moba
