/* The logits of a model that is opened from its folder or file. */
#pragma once
#include "moba/model.h"
#include "train/files/checkpoint.h"

namespace moba {

/* (ids.size(), vocabulary), one row for each token of the prompt. */
inline std::vector<float> logits_of(const std::string& path, const std::vector<int>& ids) {
    const ModelFolder folder = open_model(path);
    const int T = (int)ids.size();
    Model<float> model(folder.config, {.max_tokens = T, .max_seqs = 1, .max_position = T});
    model.allocate();
    load_weights(folder, model);
    model.set_batch(ids.data(), nullptr, {0, T}, {});
    model.forward();
    std::vector<float> logits;
    model.read_logits(0, T, logits);
    return logits;
}

}  // namespace moba
