#include "train/core/device_choice.h"
#include "train/core/scratch_folder.h"
#include "train/data/data.h"
#include "train/data/encoded_text.h"
#include "train/data/fingerprint.h"
#include "train/display/numbers.h"
#include "train/eval/evaluate_impl.h"
#include "train/eval/repeats.h"
#include "train/run/launch.h"
#include <algorithm>

namespace moba {

namespace {

using nlohmann::json;

// The text to score: all of --data, or the text that the model was validated on.
struct EvalText {
    std::unique_ptr<ScratchFolder> encoded;  // of texts that are encoded for this evaluation
    std::unique_ptr<TokenFiles> files;
    size_t begin = 0;
    std::string name;
};

EvalText open_text(const EvalOptions& o, const ModelFolder& folder) {
    EvalText out;
    std::vector<std::string> paths = o.data;
    double share = 1;
    const char* option = "val-data";
    if (paths.empty()) {
        try {
            paths = folder.data.at("val_files").get<std::vector<std::string>>();
            if (paths.empty()) {
                option = "data";
                paths = folder.data.at("files").get<std::vector<std::string>>();
                share = folder.data.at("val_share").get<double>();
            }
        } catch (const json::exception&) {
            throw Error(folder.path +
                        "/config.json: 'moba.data' does not name the text of a run; name one with --data");
        }
    }
    const std::vector<std::string> named = paths;
    if (must_be_encoded(paths, folder.tokenizer)) {
        out.encoded = std::make_unique<ScratchFolder>();
        paths = token_files(paths, folder.tokenizer, out.encoded->path());
    }
    out.files = std::make_unique<TokenFiles>(paths);
    if (o.data.empty()) { check_same_data(folder.data, {{option, fingerprint_of(*out.files)}}, folder.path); }
    check_tokenizer(folder.tokenizer, out.files->vocabulary(), "--data " + named[0]);
    const size_t n = out.files->size();
    out.begin = share >= 1 ? 0 : n - (size_t)(std::max(0.0, share) * (double)n);
    out.name = named[0] + (named.size() > 1 ? " and " + std::to_string(named.size() - 1) + " more" : "") +
               (share < 1 ? ", the last " + percent(share) : "");
    return out;
}

/* How many bytes of text each token adds. Bits per byte compare models with different tokenizers: the loss of
   all targets, by the bytes that they are. */
class TextBytes {
  public:
    explicit TextBytes(const std::string& tokenizer) {
        if (tokenizer.empty()) { return; }
        const Tokenizer t(tokenizer);
        if (!t.can_decode()) { return; }
        for (int id = 0; id < t.vocab_size(); id++) { bytes_.push_back(t.text(id).size()); }
    }
    size_t of(int id) const { return id >= 0 && (size_t)id < bytes_.size() ? bytes_[(size_t)id] : 0; }

  private:
    std::vector<size_t> bytes_;
};

}  // namespace

template <class E>
json eval_text(Comm& comm, const EvalOptions& o, const ModelFolder& folder, const Config& config,
               bool print) {
    const EvalText text = open_text(o, folder);
    const Vocabulary& vocabulary = text.files->vocabulary();
    if (vocabulary.size > config.vocab_size) {
        throw Error("--data has a vocabulary of " + std::to_string(vocabulary.size) +
                    " tokens, but the model's has only " + std::to_string(config.vocab_size));
    }
    if (comm.size() > 1) { check_same_values(comm, {{"the text", fingerprint_of(*text.files)}}); }
    const Windows windows(*text.files, text.begin, text.files->size());
    if (windows.tokens() < 2) {
        throw Error(text.name + ": has fewer than 2 tokens, too few to evaluate on" +
                    (o.data.empty() ? "; name a text with --data" : ""));
    }
    if (print) {
        std::printf("%s: %s, %zu tokens, layers %s\n", o.model.c_str(), text.name.c_str(), windows.tokens(),
                    layer_summary(config).c_str());
    }
    json result = head_of_result(o, config);
    const TextBytes text_bytes(vocabulary.tokenizer);
    for (int T : lengths_of(o, folder)) {
        const int batch = std::max(1, o.batch_tokens / T);
        Scorer<E> scorer(folder, config, batch * T, batch * T, T, parse_device(o.device));
        const size_t all = windows.count(T), count = o.windows ? std::min<size_t>(o.windows, all) : all;
        PositionLoss loss;
        RepeatLoss repeats;
        long right = 0;
        size_t bytes = 0;
        const auto add = [&](const Batch& b, const std::vector<float>& losses,
                             const std::vector<int>& correct) {
            // each document of a window is a separate sequence
            for (size_t i = 0; i + 1 < b.cu_seqlens.size(); i++) {
                const int begin = b.cu_seqlens[i], length = b.cu_seqlens[i + 1] - begin;
                std::vector<int> distances;
                if (o.repeats) { distances = repeat_distances(&b.tokens[begin], length, o.repeats); }
                for (int t = 0; t < length; t++) {
                    loss.add(t, losses[begin + t]);
                    if (o.repeats) { repeats.add(distances[t], losses[begin + t]); }
                    right += correct[begin + t];
                    bytes += text_bytes.of(b.targets[begin + t]);
                }
            }
        };
        for (size_t done = 0; done < count;) {
            show_progress("T=" + std::to_string(T) + " window " + std::to_string(done) + "/" +
                          std::to_string(count));
            std::vector<Batch> batches;  // one for each rank
            while ((int)batches.size() < comm.size() && done < count) {
                Batch& b = batches.emplace_back();
                for (int i = 0; i < batch && done < count; i++) { windows.add(done++ * all / count, T, b); }
            }
            const auto scores = scorer.run(batches, comm);
            for (size_t i = 0; i < batches.size(); i++) {
                add(batches[i], scores[i].losses, scores[i].correct);
            }
        }
        show_progress("");
        const double per_byte = loss.mean() * (double)loss.tokens() / std::log(2.0) / (double)bytes;
        if (print) {
            const std::string bits = bytes > 0 ? formatted(", %.4f bits per byte", per_byte) : "";
            std::printf("T=%-7d loss %.4f nats, perplexity %.3f%s, next token right in %s (%zu windows, %ld "
                        "tokens)%s\n",
                        T, loss.mean(), std::exp(loss.mean()), bits.c_str(),
                        percent((double)right / (double)loss.tokens()).c_str(), count, loss.tokens(),
                        sparsity_note(config, T).c_str());
            if (o.repeats) {
                std::printf("where the last %d tokens stood before:\n%s", o.repeats, repeats.text().c_str());
            }
        }
        result["lengths"].push_back({{"seq_len", T},
                                     {"sparsity", config.sparsity(T)},
                                     {"windows", count},
                                     {"tokens", loss.tokens()},
                                     {"loss", loss.mean()},
                                     {"accuracy", (double)right / (double)loss.tokens()},
                                     {"loss_by_position", loss.to_json()}});
        if (o.repeats) { result["lengths"].back()["loss_by_repeat"] = repeats.to_json(); }
        if (bytes > 0) { result["lengths"].back()["bits_per_byte"] = per_byte; }
    }
    return result;
}

INSTANTIATE(eval_text)

}  // namespace moba
