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
    struct Scores {
        std::vector<float> losses;  // by token; 0 without a target
        std::vector<int> correct;   // by token: 1 = the most likely token was the target
    };
    Scores run(const Batch& b) {
        Scores s;
        model_.set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, {});
        model_.forward();
        model_.loss(Pass::inference);
        model_.read_losses(s.losses, s.correct);
        for (float x : s.losses) {
            if (!std::isfinite(x)) { throw Error(not_finite("a loss", model_)); }
        }
        return s;
    }
    /* At most one batch for each rank, which computes it. All ranks get all scores. */
    std::vector<Scores> run(const std::vector<Batch>& batches, Comm& comm) {
        std::vector<Scores> all(batches.size());
        if (comm.rank() < (int)batches.size()) { all[comm.rank()] = run(batches[comm.rank()]); }
        std::vector<Transport::Bytes> losses(comm.size()), correct(comm.size());
        for (size_t i = 0; i < batches.size(); i++) {
            const size_t tokens = batches[i].tokens.size();
            all[i].losses.resize(tokens), all[i].correct.resize(tokens);
            losses[i] = {all[i].losses.data(), tokens * sizeof(float)};
            correct[i] = {all[i].correct.data(), tokens * sizeof(int)};
        }
        comm.all_gather(losses), comm.all_gather(correct);
        return all;
    }
    const Model<E>& model() const { return model_; }

  private:
    Model<E> model_;
};

}  // namespace moba
