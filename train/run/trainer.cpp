#include "train/run/trainer.h"
#include "moba/core/matmul.h"
#include "moba/core/parallel.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/flops.h"
#include "train/core/progress.h"
#include "train/core/version.h"
#include "train/data/data.h"
#include "train/files/checkpoint.h"
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

static volatile std::sig_atomic_t stop_asked = 0;

static void ask_to_stop(int) {
    stop_asked = 1;
    std::signal(SIGINT, SIG_DFL);  // a second Ctrl-C ends at once
}

namespace {

// Where a run is. Everything that the next step depends on, apart from weights and moments.
struct RunState {
    int step = 0;          // optimizer steps done
    uint64_t samples = 0;  // training samples drawn
    uint64_t tokens = 0;   // trained on
    size_t stage = 0;
    int stage_steps = 0;  // done in this stage
    double accuracy = 0;  // running, within this stage
};

// The micro-batches of a step.
struct Draw {
    size_t stage = 0;
    uint64_t first_sample = 0;
    std::vector<Batch> batches;  // none: nothing has been drawn
    int counted = 0;             // targets
    long tokens = 0;
    double flop = 0;
};

template <class E>
class Trainer {
  public:
    Trainer(const TrainOptions& o, const json& options);
    int run();
    TrainPlan plan() const { return {config_, model_->num_parameters(), model_->bytes()}; }

  private:
    void resume();
    void start();
    void print_settings() const;
    void step();
    Draw draw(size_t stage, uint64_t first_sample) const;
    void set_batch(const Batch&, const StepState&);
    void draw_next();
    void validate_model();
    void save();
    void log(const json& line);
    void trim_log() const;
    int remaining() const;
    double tokens_left() const;
    void make_model();
    void allocate();
    void switch_attention();
    const Stage& stage() const { return stages_[state_.stage]; }

    TrainOptions o_;
    json options_;
    std::unique_ptr<Data> data_;
    std::vector<Stage> stages_;
    Config config_;
    std::unique_ptr<Model<E>> model_;
    RunState state_;
    Draw next_;              // of the step to come, as far as that can be known
    bool next_set_ = false;  // its first micro-batch is the model's batch
    Progress progress_;
    std::ofstream log_;
    double ms_per_token_ = 0, peak_flops_ = 0;
    ModelSizes sizes_;
    Switch switch_;
};

/* The model of --init-from: its sizes, and how it attends where no option says otherwise. */
Config config_from_model(const TrainOptions& o, const Data& data) {
    const Config loaded = open_model(o.init_from).config;
    if (loaded.vocab_size < data.vocab_size()) {
        throw Error("--init-from " + o.init_from + ": its vocabulary has " +
                    std::to_string(loaded.vocab_size) + " tokens, the data needs " +
                    std::to_string(data.vocab_size()));
    }
    for (const char* size : {"hidden-size", "num-layers", "num-heads", "num-kv-heads", "head-dim",
                             "intermediate-size", "tie-word-embeddings", "key-conv", "rope-theta"}) {
        if (o.has(size)) {
            throw Error(std::string("--") + size + " cannot go with --init-from: the model there decides it");
        }
    }
    TrainOptions own = o;
    Config& c = own.model.config;
    const Config options = c;
    c = loaded;
    if (o.has("block-size")) { c.block_size = options.block_size; }
    if (o.has("top-k")) { c.top_k = options.top_k; }
    if (o.has("num-blocks")) { c.num_blocks = options.num_blocks; }
    own.model.num_kv_heads = loaded.num_kv_heads;
    own.model.head_dim = loaded.head_dim;
    own.model.intermediate_size = loaded.intermediate_size;
    if (!o.has("gate")) { own.model.gate = gate_name(loaded.gate); }
    if (!o.has("attention") && !o.has("layers") && !o.has("full-layers")) {
        for (const LayerKind& k : loaded.layers) {
            own.model.layers += (own.model.layers.empty() ? "" : ",") + layer_name(k);
        }
    }
    return make_config(own, loaded.vocab_size);
}

Config config_for(const TrainOptions& o, const Data& data) {
    if (o.resume) { return open_model(o.out).config; }
    return o.init_from.empty() ? make_config(o, data.vocab_size()) : config_from_model(o, data);
}

// The steps that the data is gone through so often.
int steps_for(const TrainOptions& o, const Data& data) {
    const double samples = o.epochs * (double)data.samples_per_epoch(o.seq_len);
    const double steps = std::ceil(samples / ((double)o.batch_size * o.grad_accum));
    if (steps > 1 << 30) { throw Error("--epochs: more than 2^30 steps"); }
    return (int)std::max(1.0, steps);
}

// "a=1 b=x ...", in lines of about 110 characters.
std::string settings_text(const json& options) {
    std::string text;
    for (const auto& [key, v] : options.items()) {
        const std::string word = key + "=" + (v.is_string() ? v.get<std::string>() : v.dump());
        if (!text.empty() && text.size() - (text.rfind('\n') + 1) + word.size() > 110) { text += "\n "; }
        text += " " + word;
    }
    return text;
}

template <class E>
Trainer<E>::Trainer(const TrainOptions& o, const json& options)
    : o_(o), options_(options), data_(open_data(o)), stages_(parse_curriculum(o.curriculum)),
      config_(config_for(o, *data_)), progress_(o.log_every) {
    o_.lr.schedule = parse_lr_schedule(o.lr_schedule);
    switch_ = parse_switch(o.switch_to);
    if (!switch_.attention.empty() && !o.resume) {
        if (is_switched(config_, switch_)) {
            throw Error("--switch " + o.switch_to + ": no layer would change");
        }
        switched(config_, switch_);  // throws now what it would throw then
    }
    stages_.push_back({o.seq_len, o.task.pairs, o.batch_size, o.steps});
    int max_tokens = 0, max_seqs = 0, max_position = 0;
    for (const Stage& s : stages_) {
        data_->check(s);
        if ((double)s.T * s.batch > 1 << 30) {
            throw Error("a micro-batch of more than 2^30 tokens: use --grad-accum");
        }
        max_tokens = std::max(max_tokens, s.T * s.batch);
        max_seqs = std::max(max_seqs, data_->max_sequences(s));
        max_position = std::max(max_position, s.T);
    }
    if (o.epochs > 0) { stages_.back().steps = steps_for(o, *data_); }
    long steps = 0;
    for (const Stage& s : stages_) { steps += s.steps; }
    if (steps > 1 << 30) { throw Error("more than 2^30 steps in all"); }
    sizes_ = {.max_tokens = max_tokens,
              .max_seqs = max_seqs,
              .max_position = max_position,
              .training = true,
              .recompute = o.recompute,
              .dropout = (float)o.dropout,
              .attention_version = o.attention_impl == "naive" ? 1 : 0};
    make_model();
}

template <class E>
void Trainer<E>::make_model() {
    model_ = std::make_unique<Model<E>>(config_, sizes_, parse_device(o_.device));
    model_->set_graph(!o_.no_graph);
    next_set_ = false;
}

template <class E>
void Trainer<E>::allocate() {
    model_->allocate();
    model_->set_optimizer({o_.beta1, o_.beta2, 1e-8, o_.weight_decay, o_.grad_clip, o_.embedding_lr_factor});
}

/* --switch: the same weights and moments under the other attention. They go through the host, so that never two models
   have to fit on the device. */
template <class E>
void Trainer<E>::switch_attention() {
    using Kind = typename Model<E>::Kind;
    std::vector<std::vector<acc_t<E>>> kept;
    for (const ParamInfo& p : model_->params()) {
        for (Kind kind : {Kind::weight, Kind::moment1, Kind::moment2}) {
            model_->read_param(kind, p, kept.emplace_back());
        }
    }
    config_ = switched(config_, switch_);
    model_.reset();
    make_model();
    allocate();
    size_t i = 0;
    for (const ParamInfo& p : model_->params()) {
        for (Kind kind : {Kind::weight, Kind::moment1, Kind::moment2}) {
            model_->write_param(kind, p, kept[i++]);
        }
    }
    model_->weights_changed();
    progress_.line("attention is " + switch_.attention + " from step " + std::to_string(state_.step + 1) +
                   " on, after " + std::to_string(state_.tokens) + " tokens");
}

template <class E>
int Trainer<E>::remaining() const {
    int n = stage().steps - state_.stage_steps;
    for (size_t i = state_.stage + 1; i < stages_.size(); i++) { n += stages_[i].steps; }
    return n;
}

// Of the stages to come, should none end early.
template <class E>
double Trainer<E>::tokens_left() const {
    double tokens = 0;
    for (size_t i = state_.stage; i < stages_.size(); i++) {
        const int steps = stages_[i].steps - (i == state_.stage ? state_.stage_steps : 0);
        tokens += (double)steps * stages_[i].T * stages_[i].batch * o_.grad_accum;
    }
    return tokens;
}

template <class E>
void Trainer<E>::print_settings() const {
    const Device device = parse_device(o_.device);
    std::printf("moba %s (%s) on %s", program_version(), program_commit(), find_device(device)->name());
    if (device == Device::cpu) {
        std::printf(", matrix products: %s, %d threads",
                    std::strcmp(blas_name(), "none") ? blas_name() : "own loop", max_threads());
    }
    std::printf("\nsettings\n %s\n", settings_text(options_).c_str());
    std::printf("layers  ");
    for (const LayerKind& k : config_.layers) { std::printf(" %s", layer_name(k).c_str()); }
    std::printf("\nweights  %zu parameters, %zu without the embedding\n", model_->num_parameters(),
                model_->num_parameters() - model_->params()[0].count);
    std::printf("memory  ");
    for (const auto& l : model_->lists()) {
        std::printf(" %s %s,", l.name.c_str(), readable_bytes(l.bytes).c_str());
    }
    std::printf(" in all %s", readable_bytes(model_->bytes()).c_str());
    const DeviceOps* memory = find_device(device);
    if (const size_t taken = memory->taken()) {
        std::printf("; context, libraries and others hold %s, %s stay free", readable_bytes(taken).c_str(),
                    readable_bytes(memory->reserve()).c_str());
    }
    std::printf("\n");
    std::printf("data     %s\n", data_->about().c_str());
    if (!config_.has(AttentionKind::moba)) { return; }
    for (const Stage& s : stages_) {
        const int seen = config_.block_size * config_.top_k;
        if (seen >= s.T) {
            std::printf("warning  top-k * block-size = %d >= T = %d: at this length MoBA is full attention\n",
                        seen, s.T);
        } else {
            std::printf("sparsity T = %d: a moba layer leaves out %.0f%% of the causal pairs\n", s.T,
                        100 * config_.sparsity({AttentionKind::moba}, s.T));
        }
    }
}

template <class E>
void Trainer<E>::log(const json& line) {
    log_ << line.dump() << "\n";
    log_.flush();
    if (!log_) { throw Error(o_.out + "/log.jsonl: could not be written (disk full?)"); }
}

// Lines of steps that will be done again are dropped, so that the log reads as if the run had never stopped.
template <class E>
void Trainer<E>::trim_log() const {
    const std::string path = o_.out + "/log.jsonl";
    std::ifstream in(path);
    std::string line, kept;
    while (std::getline(in, line)) {
        const json j = json::parse(line, nullptr, false);
        const bool step = j.is_object() && j.contains("step") && j["step"].is_number_integer();
        if (step && j["step"].get<int64_t>() <= state_.step) { kept += line + "\n"; }
    }
    replace_file(path, kept);
}

template <class E>
void Trainer<E>::start() {
    std::error_code error;
    fs::create_directories(o_.out, error);
    if (error) { throw Error("--out " + o_.out + ": " + error.message()); }
    if (fs::exists(o_.out + "/latest") || fs::exists(o_.out + "/log.jsonl")) {
        throw Error("--out " + o_.out + ": holds a run already; go on with --resume, or name another folder");
    }
    allocate();
    model_->init_weights(o_.seed);
    if (!o_.init_from.empty()) { load_weights(open_model(o_.init_from), *model_); }
}

template <class E>
void Trainer<E>::resume() {
    const ModelFolder folder = open_model(o_.out);
    allocate();
    const json s = load_checkpoint(folder, *model_);
    state_ = {s["step"].get<int>(),     s["samples"].get<uint64_t>(), s["tokens"].get<uint64_t>(),
              s["stage"].get<size_t>(), s["stage_steps"].get<int>(),  s["accuracy"].get<double>()};
    if (state_.stage >= stages_.size()) { throw Error(folder.path + "/state.json: stage beyond the last"); }
    if (s["data"].get<uint64_t>() != data_->fingerprint()) {
        throw Error(o_.out + ": the files of --data are not what they were when the run began");
    }
    trim_log();
}

template <class E>
int Trainer<E>::run() {
    print_settings();
    if (o_.resume) {
        resume();
        std::printf("resumed  %s at step %d\n", o_.out.c_str(), state_.step);
    } else {
        start();
    }
    std::fflush(stdout);
    log_.open(o_.out + "/log.jsonl", std::ios::app);
    if (!log_) { throw_errno(o_.out + "/log.jsonl"); }
    std::signal(SIGINT, ask_to_stop);
    std::signal(SIGTERM, ask_to_stop);
    const double begin = now_ms();
    while (remaining() > 0 && !stop_asked) {
        step();
        if (o_.eval_every && (state_.step % o_.eval_every == 0 || remaining() == 0)) { validate_model(); }
        if (o_.save_every && state_.step % o_.save_every == 0 && remaining() > 0) { save(); }
    }
    progress_.done();
    save();
    std::printf("%s at step %d after %s; model in %s/latest\n",
                stop_asked && remaining() > 0 ? "stopped" : "done", state_.step,
                readable_seconds((now_ms() - begin) / 1000).c_str(), o_.out.c_str());
    if (remaining() > 0) { std::printf("go on with: moba train --resume --out %s\n", o_.out.c_str()); }
    return 0;
}

template <class E>
Draw Trainer<E>::draw(size_t stage, uint64_t first_sample) const {
    const Stage& s = stages_[stage];
    Draw d{stage, first_sample, std::vector<Batch>(o_.grad_accum)};
    for (Batch& b : d.batches) {
        for (int i = 0; i < s.batch; i++) { data_->add_sample(first_sample++, s, b); }
        d.counted += b.counted();
        d.tokens += (long)b.tokens.size();
        d.flop += step_flop(config_, model_->num_parameters(), b.cu_seqlens, b.counted());
    }
    return d;
}

template <class E>
void Trainer<E>::set_batch(const Batch& b, const StepState& step) {
    model_->set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, step);
}

/* While the device works on this step: the next one's samples, and the first micro-batch on its way. What this step
   still decides is whether its stage ends early; then step() draws again. The learning rate comes with the update. */
template <class E>
void Trainer<E>::draw_next() {
    if (remaining() == 0) { return; }
    const bool last_of_stage = state_.stage_steps == stage().steps && state_.stage + 1 < stages_.size();
    next_ = draw(state_.stage + last_of_stage, state_.samples);
    set_batch(next_.batches[0], {o_.seed, (uint32_t)state_.step + 1, 0, 1.0 / next_.counted, 0});
    next_set_ = true;
}

template <class E>
void Trainer<E>::step() {
    if (!switch_.attention.empty() && !is_switched(config_, switch_) &&
        (double)state_.tokens >= switch_.share * ((double)state_.tokens + tokens_left())) {
        switch_attention();
    }
    const double begin = now_ms();
    const Stage s = stage();
    if (next_.batches.empty() || next_.stage != state_.stage || next_.first_sample != state_.samples) {
        next_ = draw(state_.stage, state_.samples);
        next_set_ = false;
    }
    const Draw drawn = std::move(next_);
    next_ = {};
    const int counted = drawn.counted;
    const long tokens = drawn.tokens;
    state_.samples += (uint64_t)s.batch * o_.grad_accum;
    state_.step++;
    state_.stage_steps++;
    state_.tokens += tokens;
    const double lr = learning_rate(o_.lr, state_.step, remaining());
    StepState now{o_.seed, (uint32_t)state_.step, 0, 1.0 / counted, lr};
    bool replayed = true;
    model_->zero_gradients();
    for (const Batch& b : drawn.batches) {
        if (!next_set_) { set_batch(b, now); }
        next_set_ = false;
        replayed &= model_->training_passes();
        now.micro_batch++;
    }
    model_->update(now);
    draw_next();
    const auto [loss_sum, right, norm] = model_->step_result();  // waits
    const double loss = loss_sum / counted;
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
        progress_.done();
        const std::string bad = model_->first_not_finite();
        throw Error("step " + std::to_string(state_.step) + ": " +
                    (std::isfinite(loss) ? "gradient norm" : "loss") +
                    " is not finite; first bad tensor: " + (bad.empty() ? "none (the sum overflowed)" : bad) +
                    ". The last checkpoint in " + o_.out + " is from before; try a lower --lr");
    }
    const double share = right / counted, ms = now_ms() - begin;
    if (peak_flops_ == 0) { peak_flops_ = peak_flops<E>(parse_device(o_.device)); }
    const double gflops = drawn.flop / ms / 1e6, mfu = gflops * 1e9 / peak_flops_;
    state_.accuracy = state_.stage_steps == 1 ? share : 0.9 * state_.accuracy + 0.1 * share;
    ms_per_token_ = ms_per_token_ == 0 ? ms / tokens : 0.95 * ms_per_token_ + 0.05 * ms / tokens;
    std::string stage_name = stages_.size() > 1 ? "T=" + std::to_string(s.T) : "";
    if (const uint64_t epoch = data_->samples_per_epoch(s.T)) {
        char text[32];
        std::snprintf(text, sizeof text, "epoch %.2f", (double)state_.samples / (double)epoch);
        stage_name = text;
    }
    progress_.step({state_.step, state_.step + remaining(), loss, state_.accuracy, norm, lr, ms, mfu, tokens,
                    tokens_left() * ms_per_token_ / 1000, stage_name, replayed});
    json line = {{"step", state_.step},
                 {"loss", loss},
                 {"accuracy", share},
                 {"grad_norm", norm},
                 {"lr", lr},
                 {"ms", ms},
                 {"tokens_per_s", tokens / ms * 1000},
                 {"gflops", gflops},
                 {"mfu", mfu},
                 {"seq_len", s.T},
                 {"tokens", tokens}};
    if (find_device(model_->ctx().device)->graphs) { line["graph"] = replayed; }
    log(line);
    const bool last = state_.stage + 1 == stages_.size();
    const bool learnt = o_.stage_accuracy > 0 && state_.accuracy >= o_.stage_accuracy;
    if (!last && (learnt || state_.stage_steps == s.steps)) {
        state_.stage++;
        state_.stage_steps = 0;
        progress_.line("stage T=" + std::to_string(s.T) +
                       (learnt                   ? " learnt"
                        : o_.stage_accuracy == 0 ? " done"
                                                 : " NOT learnt, out of its steps") +
                       " at step " + std::to_string(state_.step) + ", on to T=" + std::to_string(stage().T));
    }
}

// The same samples every time, at the final length.
template <class E>
void Trainer<E>::validate_model() {
    const Stage& final = stages_.back();
    const int samples = data_->num_validation(final.T);
    double loss = 0;
    long right = 0, counted = 0;
    std::vector<float> losses;
    std::vector<int> correct;
    next_set_ = false;
    for (int done = 0; done < samples;) {
        Batch b;
        for (int i = 0; i < final.batch && done < samples; i++) { data_->add_validation(done++, final.T, b); }
        counted += b.counted();
        model_->set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, {});
        model_->forward();
        model_->loss(false);
        model_->read_losses(losses, correct);
        for (float x : losses) { loss += x; }
        for (int c : correct) { right += c; }
    }
    loss /= (double)counted;
    const double accuracy = (double)right / (double)counted;
    char text[160];
    std::snprintf(text, sizeof text, "validation at step %d: loss %.4f, accuracy %.1f%% (%d %s of %d tokens)",
                  state_.step, loss, 100 * accuracy, samples, data_->validation_name().c_str(), final.T);
    progress_.line(text);
    log({{"step", state_.step}, {"val_loss", loss}, {"val_accuracy", accuracy}});
}

template <class E>
void Trainer<E>::save() {
    const json origin = {{"program", std::string("moba ") + program_version()},
                         {"commit", program_commit()},
                         {"seed", o_.seed},
                         {"step", state_.step},
                         {"init_from", o_.init_from}};
    const json state = {{"step", state_.step},
                        {"samples", state_.samples},
                        {"tokens", state_.tokens},
                        {"stage", state_.stage},
                        {"stage_steps", state_.stage_steps},
                        {"accuracy", state_.accuracy},
                        {"data", data_->fingerprint()},
                        {"options", options_}};
    json about = data_->origin();
    about["origin"] = origin;
    save_checkpoint(o_.out, state_.step, *model_, about, data_->tokenizer(), state);
}

}  // namespace

TrainPlan plan_training(const TrainOptions& o) {
    return with_precision(o.precision, [&](auto e) { return Trainer<decltype(e)>(o, {}).plan(); });
}

int run_train(const TrainOptions& o, const json& options) {
    return with_precision(o.precision, [&](auto e) { return Trainer<decltype(e)>(o, options).run(); });
}

}  // namespace moba
