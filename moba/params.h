/* The weights of a model: the only list of them. Allocation, gradients, AdamW, checkpoints and tests go
   through it. Names and shapes are Hugging Face's; the key convolution is this project's.

   Order    as in memory. q, k and v lie one after another, and so do gate and up: each group is read as one
            matrix */
#pragma once
#include "moba/config.h"

namespace moba {

// How a weight is initialised. uniform: between -1/sqrt(inputs) and 1/sqrt(inputs).
enum class Init { embedding, uniform, ones };

struct ParamInfo {
    std::string name;
    std::vector<int> shape;
    Init init;
    bool decay;           // weight decay applies
    bool embedding;       // the embedding's learning rate factor applies
    size_t begin, count;  // elements, within the one allocation
};

/* Pointers to all weights, or to their gradients. Letters: base.h; W = taps of the key convolution. */
template <class X>
struct LayerParams {
    X* norm1 = nullptr;   // (C)
    X* q = nullptr;       // (H*D, C), followed by k and v: (H+2G)*D rows in all
    X* k = nullptr;       // (G*D, C)
    X* v = nullptr;       // (G*D, C)
    X* o = nullptr;       // (C, H*D)
    X* k_conv = nullptr;  // (G*D, W), nullptr in layers without key convolution
    X* norm2 = nullptr;   // (C)
    X* gate = nullptr;    // (F, C), followed by up: 2F rows in all
    X* up = nullptr;      // (F, C)
    X* down = nullptr;    // (C, F)
};
template <class X>
struct Params {
    X* embed = nullptr;  // (V, C)
    X* norm = nullptr;   // (C)
    X* head = nullptr;   // (V, C); == embed when tied
    std::vector<LayerParams<X>> layers;
};

struct ParamList {
    std::vector<ParamInfo> params;
    size_t elements;  // of the allocation, with the gaps that align each group
};
ParamList list_params(const Config&);

/* Points `p` into the allocation that begins at `base`; all nullptr where base is. */
template <class X>
void point_params(const Config&, const std::vector<ParamInfo>&, Params<X>& p, X* base);

}  // namespace moba
