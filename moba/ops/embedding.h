/* Embedding: looks up a row of the table for every token.

   Math     y[m,:] = w[token[m],:]
            backward: dw[v,:] += sum of dy[m,:] over all m with token[m] = v
   Shapes   y, dy (M, C) E · token (M) int · w (V, C) E · dw (V, C) acc_t<E>
   Units    token: index of a row of the table
   Needs    0 <= token < V (code that reads tokens from outside must check them)
   Error    forward exact; backward: the rounding of one sum per element
   Cost     2*M*C elements read and written; memory bound
   Order    dw[v,c] adds the tokens in order of m */
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
