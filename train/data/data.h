/* Where a run's samples come from: a task that draws them, or files of tokens. A sample is told by its number, so that
   a run goes on exactly where it stopped. */
#pragma once
#include "train/data/batch.h"
#include "train/data/token_files.h"
#include "train/options/options.h"

namespace moba {

class Data {
  public:
    virtual ~Data() = default;
    virtual int vocab_size() const = 0;
    virtual std::string about() const = 0;                       // one line for the start of a run
    virtual void check(const Stage&) const = 0;                  // throws Error when no sample fits
    virtual int max_sequences(const Stage&) const = 0;           // in a micro-batch
    virtual uint64_t samples_per_epoch(int) const { return 0; }  // at this length; 0: there is no epoch

    virtual void add_sample(uint64_t index, const Stage&, Batch&) const = 0;
    virtual int num_validation(int T) const = 0;
    virtual void add_validation(int index, int T, Batch&) const = 0;
    virtual std::string validation_name() const = 0;  // what its samples are called
    virtual nlohmann::json origin() const = 0;        // what the model's config.json remembers, under `moba`
    virtual std::string tokenizer() const { return ""; }  // a tokenizer.json, for every checkpoint
    virtual uint64_t fingerprint() const { return 0; }    // of what must not have changed when a run goes on
};

std::unique_ptr<Data> open_data(const TrainOptions&);

/* A stretch of a token stream cut into windows of T tokens; the token behind each is its last target. */
class Windows {
  public:
    Windows(const TokenFiles& files, size_t begin, size_t end) : files_(files), begin_(begin), end_(end) {}
    size_t tokens() const { return end_ - begin_; }
    /* All windows in order, the last one may be short: window `index` of count(T). */
    size_t count(int T) const { return tokens() < 2 ? 0 : ceil_div(tokens() - 1, (size_t)T); }
    void add(size_t index, int T, Batch&) const;
    /* Windows of an epoch: every epoch starts elsewhere and has an order of its own, both from the seed. */
    size_t per_epoch(int T) const;
    void add_shuffled(uint64_t seed, uint64_t sample, int T, Batch&) const;

  private:
    void add_at(size_t first, int T, Batch&) const;
    const TokenFiles& files_;
    size_t begin_, end_;
};

/* Number `index` of a random order of 0..n-1 that `seed` and `epoch` name; nothing is stored. */
uint64_t shuffled(uint64_t seed, uint64_t epoch, uint64_t index, uint64_t n);

}  // namespace moba
