/* Where a run's samples come from: a task that generates them, or files of tokens. A sample is identified by
   its number alone, so a resumed run continues exactly where it stopped. */
#pragma once
#include "train/data/batch.h"
#include "train/data/token_files.h"
#include "train/options/options.h"
#include "train/tokenizer/tokenizer.h"

namespace moba {

class Data {
  public:
    virtual ~Data() = default;
    virtual int vocab_size() const = 0;
    virtual std::string about() const = 0;                       // one line for the start of a run
    virtual void check(const Stage&) const = 0;                  // throws Error when no sample fits the stage
    virtual int max_sequences(const Stage&) const = 0;           // in one micro-batch
    virtual uint64_t samples_per_epoch(int) const { return 0; }  // at this T; 0 = no epochs

    virtual void add_sample(uint64_t index, const Stage&, Batch&) const = 0;
    virtual int num_validation(int T) const = 0;
    virtual void add_validation(int index, int T, Batch&) const = 0;
    virtual std::string validation_name() const = 0;      // "tests" or "windows"
    virtual nlohmann::json origin() const = 0;            // for the checkpoint's config.json, under `moba`
    virtual std::string tokenizer() const { return ""; }  // contents of tokenizer.json; "" = none
    /* To show tokens as text; nullptr where they are no text, or its decoder is unknown. */
    virtual const Tokenizer* text_tokenizer() const { return nullptr; }
    /* Throws Error when the samples do not fit the tokenizer of a model, as ModelFolder has it. */
    virtual void check_model_tokenizer(const std::string&) const {}
    /* What a run that continues must find again, by option: {"data": fingerprint_of(files), ...}. */
    virtual nlohmann::json fingerprint() const;
};

/* tokenizer: what texts are encoded with, as token_files() takes it; .bin files need none. */
std::unique_ptr<Data> open_data(const TrainOptions&, const std::string& tokenizer);

/* A range of a token stream, cut into windows of T tokens. The token after a window is its last target. */
class Windows {
  public:
    Windows(const TokenFiles& files, size_t begin, size_t end) : files_(files), begin_(begin), end_(end) {}
    size_t tokens() const { return end_ - begin_; }
    /* All windows in order: window `index` of count(T). The last one may be shorter. */
    size_t count(int T) const { return tokens() < 2 ? 0 : ceil_div(tokens() - 1, (size_t)T); }
    void add(size_t index, int T, Batch&) const;
    /* The windows of an epoch. Each epoch has another first token and another order, both drawn from the
       seed. */
    size_t per_epoch(int T) const;
    void add_shuffled(uint64_t seed, uint64_t sample, int T, Batch&) const;

  private:
    void add_at(size_t first, int T, Batch&) const;
    const TokenFiles& files_;
    size_t begin_, end_;
};

/* Number `index` of a random order of 0..n-1 that `seed` and `epoch` determine; nothing is stored. */
uint64_t shuffled(uint64_t seed, uint64_t epoch, uint64_t index, uint64_t n);

}  // namespace moba
