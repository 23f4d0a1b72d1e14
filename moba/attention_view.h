/* What the attention of a layer saw in the last pass, on the host in fp32: for router recall and for
   pictures.

   Shapes   q (M, H, D) · k (M, G, D) as attention uses them · means, one list for each key/value head:
            (blocks of its size, D), rounded to the model's element type · chosen, one list for each query
            head: (M, K of that head), global blocks ascending, -1 unused
   Needs    a model that keeps its layers apart: ModelSizes.training without recompute */
#pragma once
#include "moba/model.h"

namespace moba {

struct AttentionView {
    AttentionShape shape;
    Sequences seqs;  // points into the model's
    std::vector<float> q, k;
    std::vector<std::vector<float>> means;
    std::vector<std::vector<int>> chosen;  // empty where the layer is not moba

    const BlockTable& blocks(int h) const { return seqs.level[shape.gate.level(seqs, h)]; }
    const float* query(int t, int h) const { return q.data() + ((size_t)t * shape.H + h) * shape.D; }
    const float* key(int t, int h) const {
        return k.data() + ((size_t)t * shape.G + h / (shape.H / shape.G)) * shape.D;
    }
    /* The gate's score of a block for a query, and whether it was chosen. */
    float score(int t, int h, int block) const;
    bool is_chosen(int t, int h, int block) const;
};

template <class E>
AttentionView view_attention(const Model<E>&, int layer);

}  // namespace moba
