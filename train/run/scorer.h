/* A trained model that scores batches: the loss of each token, and whether the most likely token was the
   right one. */
#pragma once
#include "moba/model.h"
#include "train/data/batch.h"
#include "train/files/checkpoint.h"

namespace moba {

template <class E>
class Scorer {
  public:
    // For sequences of at most T tokens. keep_layers: the results of each layer stay readable, which takes
    // memory.
    Scorer(const ModelFolder& folder, const Config& config, int max_tokens, int max_seqs, int T,
           Device device, bool keep_layers = false)
        : model_(config,
                 {.max_tokens = max_tokens, .max_seqs = max_seqs, .max_position = T, .training = keep_layers},
                 device) {
        model_.allocate();
        load_weights(folder, model_);
    }
    void run(const Batch& b) {
        model_.set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, {});
        model_.forward();
        model_.loss(Pass::inference);
        model_.read_losses(losses, correct);
    }
    const Model<E>& model() const { return model_; }
    std::vector<float> losses;  // by token of the last batch; 0 without a target
    std::vector<int> correct;   // by token: 1 = the most likely token was the target

  private:
    Model<E> model_;
};

}  // namespace moba
