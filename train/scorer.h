/* A trained model that scores batches: token losses, and whether the likeliest token was the right one. */
#pragma once
#include "moba/model.h"
#include "train/batch.h"
#include "train/checkpoint.h"

template <class E>
class Scorer {
  public:
    // For sequences of at most T tokens.
    Scorer(const ModelFolder& folder, const Config& config, int max_tokens, int max_seqs, int T,
           Device device)
        : model_(config, {.max_tokens = max_tokens, .max_seqs = max_seqs, .max_position = T}, device) {
        model_.allocate();
        load_weights(folder, model_);
    }
    void run(const Batch& b) {
        model_.set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, {});
        model_.forward();
        model_.loss(false);
        model_.read_losses(losses, correct);
    }
    std::vector<float> losses;  // of each token of the last batch; 0 where it has no target
    std::vector<int> correct;

  private:
    Model<E> model_;
};
