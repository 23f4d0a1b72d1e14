/* A trained model that scores batches: the loss of each token, and whether the most likely token was the
   right one. */
#pragma once
#include "moba/model.h"
#include "train/data/batch.h"
#include "train/files/checkpoint.h"

namespace moba {

/* The message for a result that is NaN or infinite: with the first bad tensor, where one is known. */
template <class E>
std::string not_finite(const std::string& what, const Model<E>& model) {
    const std::string bad = model.first_not_finite();
    return what + " is not finite: the weights have diverged, or are not those of this model" +
           (bad.empty() ? "" : "; first bad tensor: " + bad);
}

template <class E>
class Scorer {
  public:
    // kept: the results of each layer stay readable, which takes memory. short_last: the last layer is
    // computed only where there is a target, one sequence at a time (ModelSizes::asked_only).
    enum class Layers { overwritten, kept, short_last };
    // For sequences of at most T tokens.
    static ModelSizes sizes(int max_tokens, int max_seqs, int T, Layers layers) {
        return {.max_tokens = max_tokens,
                .max_seqs = max_seqs,
                .max_position = T,
                .training = layers == Layers::kept,
                .asked_only = layers == Layers::short_last};
    }
    Scorer(const ModelFolder& folder, const Config& config, int max_tokens, int max_seqs, int T,
           Device device, Layers layers = Layers::overwritten)
        : model_(config, sizes(max_tokens, max_seqs, T, layers), device) {
        model_.allocate();
        load_weights(folder, model_);
    }
    void run(const Batch& b) {
        model_.set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, {});
        model_.forward();
        model_.loss(Pass::inference);
        model_.read_losses(losses, correct);
        for (float x : losses) {
            if (!std::isfinite(x)) { throw Error(not_finite("a loss", model_)); }
        }
    }
    const Model<E>& model() const { return model_; }
    std::vector<float> losses;  // by token of the last batch; 0 without a target
    std::vector<int> correct;   // by token: 1 = the most likely token was the target

  private:
    Model<E> model_;
};

}  // namespace moba
