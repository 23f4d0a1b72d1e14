/* The weights of a model: the only list of them. Allocation, gradients, AdamW, checkpoints and tests go
   through it. Names and shapes are Hugging Face's; the key convolution is this project's.

   Order    as in memory. q, k and v lie one after another, and so do gate and up: each group is read as one
            matrix
   Ranks    each rank owns an equal slice of every bucket: of these weights it has the sum of the gradients
            and the moments, and it updates them (ZeRO-1: Rajbhandari et al. 2020, arXiv:1910.02054). A bucket
            is a layer, so that its gradients can be sent while the backward pass computes the layer below */
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

struct Bucket {
    size_t begin;  // elements, within the one allocation
    size_t slice;  // elements of each rank; rank r owns begin + r * slice and what follows
    size_t owned;  // where this slice begins among all elements that a rank owns
};
struct ParamList {
    std::vector<ParamInfo> params;
    std::vector<Bucket> buckets;  // the embedding, each layer, the final norm and the head; one for one rank
    size_t elements;              // of the allocation, with the gaps that align each group
    size_t owned;                 // by each rank
};
ParamList list_params(const Config&, int ranks = 1);

/* Points `p` into the allocation that begins at `base`; all nullptr where base is. */
template <class X>
void point_params(const Config&, const std::vector<ParamInfo>&, Params<X>& p, X* base);

}  // namespace moba
