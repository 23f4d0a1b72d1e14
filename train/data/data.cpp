#include "train/data/data.h"
#include "train/data/encoded_text.h"
#include "train/data/fingerprint.h"
#include "train/tokenizer/tokenizer.h"
#include <filesystem>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

class TaskData : public Data {
  public:
    explicit TaskData(const TrainOptions& o)
        : seed_(o.seed), validations_(o.eval_samples ? o.eval_samples : 1000),
          task_(make_task(named(o.task), "")) {}
    int vocab_size() const override { return task_->vocab_size(); }
    std::string about() const override {
        char text[100];
        std::snprintf(text, sizeof text, "task %s, chance %.2g%% by guessing", task_->settings().name.c_str(),
                      100 * task_->chance());
        return text;
    }
    void check(const Stage& s) const override {
        const int pairs = pairs_of(s);
        const std::string wanted =
            std::to_string(pairs) + " pairs of the " + task_->settings().name + " task";
        if (pairs > task_->most_pairs()) {
            throw Error(wanted + ": there are keys and values for at most " +
                        std::to_string(task_->most_pairs()) + "; use fewer pairs, or more keys and values");
        }
        if (s.T < task_->shortest(pairs)) {
            throw Error("a sample of " + std::to_string(s.T) + " tokens is too short for " + wanted +
                        ": it must have at least " + std::to_string(task_->shortest(pairs)) + " tokens");
        }
        check_longest(*task_, s.T, "a sample of " + std::to_string(s.T) + " tokens");
    }
    int max_sequences(const Stage& s) const override { return s.batch; }
    void add_sample(uint64_t index, const Stage& s, Batch& b) const override {
        Rng rng(seed_, Purpose::train_data, index);
        Sample sample;
        task_->draw(rng, s.T, pairs_of(s), sample);
        b.add(sample);
    }
    int num_validation(int) const override { return validations_; }
    // A test with a random depth, from a random stream that training does not use.
    void add_validation(int index, int T, Batch& b) const override {
        Rng rng(seed_, Purpose::validation_data, (uint64_t)index);
        const double depth = rng.uniform();
        Sample sample;
        task_->draw_test(rng, T, depth, sample);
        b.add(sample);
    }
    std::string validation_name() const override { return "tests"; }
    json origin() const override { return {{"task", task_to_json(task_->settings())}}; }

  private:
    static TaskSettings named(TaskSettings s) {
        if (s.name.empty()) { s.name = "needle"; }
        return s;
    }
    int pairs_of(const Stage& s) const { return s.pairs ? s.pairs : task_->settings().pairs; }
    uint64_t seed_;
    int validations_;
    std::unique_ptr<Task> task_;
};

class TextData : public Data {
  public:
    TextData(const TrainOptions& o, const std::string& tokenizer)
        : seed_(o.seed), validations_(o.eval_samples), files_(token_files(o.data, tokenizer, beside(o.out))),
          val_files_(o.val_data.empty()
                         ? nullptr
                         : std::make_unique<TokenFiles>(token_files(o.val_data, tokenizer, beside(o.out)))),
          train_(files_, 0, cut(o)), val_(val_files_ ? Windows(*val_files_, 0, val_files_->size())
                                                     : Windows(files_, cut(o), files_.size())) {
        if (val_files_ && !(val_files_->vocabulary() == vocabulary())) {
            throw Error(
                "--val-data has another vocabulary than --data: both must come from the same tokenizer");
        }
        if (o.eval_every > 0 && val_.tokens() < 2) {
            throw Error(std::string(val_files_ ? "--val-data has" : "--val-share of --data leaves") +
                        " fewer than 2 tokens to validate on: use more text" +
                        (val_files_ ? "" : " or a larger share") + ", or --eval-every 0");
        }
        const std::string& t = vocabulary().tokenizer;
        if (!t.empty()) {
            readable_ = std::make_unique<Tokenizer>(t);  // throws now, not at the first checkpoint
            if (t != "bytes") { tokenizer_ = tokenizer_json(t); }
        }
        origin_ = {{"data", {{"files", o.data}, {"val_files", o.val_data}, {"val_share", o.val_share}}},
                   {"end_token", vocabulary().end_token},
                   {"tokenizer", tokenizer_.empty() ? t : "tokenizer.json"}};
    }
    int vocab_size() const override { return vocabulary().size; }
    std::string about() const override {
        return "text, " + std::to_string(train_.tokens()) + " tokens to train on, " +
               std::to_string(val_.tokens()) + " to validate on, vocabulary of " +
               std::to_string(vocab_size());
    }
    void check(const Stage& s) const override {
        if (train_.tokens() < (size_t)s.T + 1) {
            throw Error("--data has only " + std::to_string(train_.tokens()) +
                        " tokens to train on, but --seq-len " + std::to_string(s.T) + " needs at least " +
                        std::to_string(s.T + 1) + ": use more text or a shorter length");
        }
    }
    int max_sequences(const Stage& s) const override { return s.T * s.batch; }  // documents of one token
    uint64_t samples_per_epoch(int T) const override { return train_.per_epoch(T); }
    void add_sample(uint64_t index, const Stage& s, Batch& b) const override {
        train_.add_shuffled(seed_, index, s.T, b);
    }
    int num_validation(int T) const override {
        const size_t all = val_.count(T);
        return (int)std::min<size_t>(validations_ ? validations_ : all, all);
    }
    void add_validation(int index, int T, Batch& b) const override {  // evenly spread over all windows
        val_.add((size_t)index * val_.count(T) / num_validation(T), T, b);
    }
    std::string validation_name() const override { return "windows"; }
    json origin() const override { return origin_; }
    std::string tokenizer() const override { return tokenizer_; }
    const Tokenizer* text_tokenizer() const override {
        return readable_ && readable_->can_decode() ? readable_.get() : nullptr;
    }
    void check_model_tokenizer(const std::string& tokenizer) const override {
        check_tokenizer(tokenizer, vocabulary(), "--data " + files_.first_path());
    }
    json fingerprint() const override {
        json all = {{"data", fingerprint_of(files_)}};
        if (val_files_) { all["val-data"] = fingerprint_of(*val_files_); }
        return all;
    }

  private:
    const Vocabulary& vocabulary() const { return files_.vocabulary(); }
    // Where encoded texts are: beside the folder of the run, so that other runs find them, too; in that
    // folder if it is named alone, because the folder above it is then the user's.
    static std::string beside(const std::string& out) {
        const std::string above = fs::path(out + "/").lexically_normal().parent_path().parent_path();
        return above.empty() ? out : above;
    }
    size_t cut(const TrainOptions& o) const {
        return o.val_data.empty() ? files_.size() - (size_t)(o.val_share * (double)files_.size())
                                  : files_.size();
    }
    uint64_t seed_;
    int validations_;
    TokenFiles files_;
    std::unique_ptr<TokenFiles> val_files_;
    Windows train_, val_;
    std::string tokenizer_;  // contents of tokenizer.json
    std::unique_ptr<Tokenizer> readable_;
    json origin_;
};

}  // namespace

json Data::fingerprint() const { return json::object(); }

std::unique_ptr<Data> open_data(const TrainOptions& o, const std::string& tokenizer) {
    if (!o.data.empty() && !o.task.name.empty()) {
        throw Error("--task and --data cannot be used together: name only one of them");
    }
    if (o.data.empty()) {
        if (!o.val_data.empty()) {
            throw Error("--val-data needs --data: without it, samples come from a task");
        }
        if (o.epochs > 0) {
            throw Error("--epochs needs --data: a task has no epochs, its samples never repeat; use --steps");
        }
        return std::make_unique<TaskData>(o);
    }
    if (!o.curriculum.empty()) {
        throw Error("--curriculum is only for tasks: it cannot be used with --data");
    }
    if (!o.tokenizer.empty() && is_token_file(o.data.at(0))) {
        throw Error("--tokenizer is for texts: " + o.data[0] + " holds tokens already");
    }
    return std::make_unique<TextData>(o, tokenizer);
}

// -----------------------------------------------------------------------------------------------------------

void Windows::add_at(size_t first, int T, Batch& b) const {
    const size_t count = std::min((size_t)T, end_ - 1 - first);
    std::vector<int> ids(count + 1);
    files_.read(first, count + 1, ids.data());
    b.add_text(ids, files_.vocabulary().end_token);
}

void Windows::add(size_t index, int T, Batch& b) const { add_at(begin_ + index * T, T, b); }

// One window fewer than fits, so that an epoch can start at any offset within one window's length.
size_t Windows::per_epoch(int T) const {
    const size_t fit = (tokens() - 1) / T;
    return fit > 1 ? fit - 1 : fit;
}

void Windows::add_shuffled(uint64_t seed, uint64_t sample, int T, Batch& b) const {
    const uint64_t n = per_epoch(T), epoch = sample / n;
    const size_t slack = std::min<size_t>(T, tokens() - n * T);
    const size_t shift = Rng(seed, Purpose::epoch_start, epoch).below((int)slack);
    add_at(begin_ + shift + shuffled(seed, epoch, sample % n, n) * T, T, b);
}

/* A Feistel network of 4 rounds permutes the numbers of 2k bits. A result that is not below n is permuted
   again until it is (at most 4 times on average, since 2^2k <= 4n). */
uint64_t shuffled(uint64_t seed, uint64_t epoch, uint64_t index, uint64_t n) {
    int k = 1;
    while (1ull << 2 * k < n) { k++; }
    const uint32_t mask = (uint32_t)((1ull << k) - 1);
    do {
        uint32_t left = (uint32_t)(index >> k), right = (uint32_t)index & mask;
        for (uint32_t round = 0; round < 4; round++) {
            const Philox4 r = philox(seed, right, (uint32_t)epoch, round, (uint32_t)Purpose::epoch_order);
            const uint32_t mixed = left ^ (r.word[0] & mask);
            left = right;
            right = mixed;
        }
        index = (uint64_t)left << k | right;
    } while (index >= n);
    return index;
}

}  // namespace moba
