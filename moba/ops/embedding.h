/* Embedding: a row of the table for every token.

   Math     y[m,:] = w[token[m],:]
            backward: dw[v,:] += sum over m with token[m] = v of dy[m,:]
   Shapes   y, dy (M, C) E · token (M) int · w (V, C) E · dw (V, C) acc_t<E>
   Units    token: row index
   Needs    0 <= token < V (whoever reads tokens from outside checks them)
   Error    forward exact; backward the rounding of one sum per element
   Cost     2*M*C elements read and written; memory bound
   Order    dw[v,c] adds the tokens in order of m: threads share the columns, never the rows. */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct EmbeddingShape {
    int M, C, V;
};

template <class E>
void embedding_forward_cpu(const Ctx&, E* y, const int* token, const E* w, EmbeddingShape);
template <class E>
void embedding_backward_cpu(const Ctx&, acc_t<E>* dw, const int* token, const E* dy, EmbeddingShape);

template <class E>
void embedding_forward_gpu(const Ctx&, E* y, const int* token, const E* w, EmbeddingShape);
template <class E>
void embedding_backward_gpu(const Ctx&, acc_t<E>* dw, const int* token, const E* dy, EmbeddingShape);
size_t embedding_workspace_bytes_gpu(EmbeddingShape);
inline size_t embedding_workspace_bytes_cpu(EmbeddingShape) { return 0; }

}  // namespace moba
