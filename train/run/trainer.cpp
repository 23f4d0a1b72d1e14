#include "train/run/trainer.h"
#include "moba/core/matmul.h"
#include "moba/core/parallel.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/flops.h"
#include "train/core/progress.h"
#include "train/core/shell_text.h"
#include "train/core/version.h"
#include "train/data/fingerprint.h"
#include "train/files/run_folder.h"
#include "train/files/run_log.h"
#include "train/run/stop_signal.h"
#include "train/run/train_plan.h"
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// The micro-batches of a step.
struct Draw {
    int stage = 0;
    uint64_t first_sample = 0;
    std::vector<Batch> batches;  // empty: nothing has been drawn
    int counted = 0;             // targets
    long tokens = 0;
    double flop = 0;
};

// What a step gave.
struct StepOutcome {
    double loss, accuracy, norm;  // means over the counted targets; norm of the gradient, before clipping
    double lr;
    bool replayed;  // all passes came from a recorded graph
};

template <class E>
class Trainer {
  public:
    explicit Trainer(const TrainCommand&);
    int run();
    TrainPlan plan() const {
        return {config_, model_->num_parameters(), model_->bytes(), data_->fingerprint()};
    }

  private:
    void resume();
    void start();
    void print_settings() const;
    bool step();
    void switch_if_due();
    Draw take_draw();
    std::optional<StepOutcome> train_step(const Draw&);
    void check_finite(const StepOutcome&);
    void report(const StepOutcome&, const Draw&, double ms);
    void advance_stage();
    std::string stage_text() const;
    Draw draw(int stage, uint64_t first_sample) const;
    void set_batch(const Batch&, const StepState&);
    void draw_next();
    bool validation_due() const;
    void validate_model();
    template <class Read>
    void read_or_save(Read);
    void save();
    void print_new_length() const;
    int remaining() const;
    double tokens_left() const;
    void make_model();
    void allocate();
    void switch_attention();
    const Stage& stage() const { return stages_[state_.stage]; }

    TrainOptions o_;
    std::optional<ModelFolder> resumed_, init_;  // of --resume, of --init-from
    std::unique_ptr<Data> data_;
    std::vector<Stage> stages_;
    Config config_;
    ModelSizes sizes_;
    std::unique_ptr<Model<E>> model_;
    RunState state_;
    Draw next_;              // of the step to come, as far as that can be known
    bool next_set_ = false;  // its first micro-batch is the model's batch
    Progress progress_;
    KeptFiles kept_;  // of --init-from
    RunLog log_;
    FolderLock lock_;      // of o_.out
    json options_before_;  // of a run that is resumed
    json fingerprint_;     // of data_
    double ms_per_token_ = 0, peak_flops_ = 0;
    Switch switch_;
};

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

std::optional<ModelFolder> open_init(const TrainCommand& c) {
    if (c.resumed || c.options.init_from.empty()) { return {}; }
    return open_model(c.options.init_from);
}

template <class E>
Trainer<E>::Trainer(const TrainCommand& c)
    : o_(c.options), init_(open_init(c)), data_(open_data(o_)), stages_(training_stages(o_, *data_)),
      config_(training_config(c, *data_, init_)), sizes_(training_sizes(o_, *data_, stages_)),
      progress_(o_.log_every), switch_(parse_switch(o_.switch_to)) {
    o_.lr.schedule = parse_lr_schedule(o_.lr_schedule);
    if (c.resumed) {
        resumed_ = c.resumed->folder;
        state_ = c.resumed->state;
        options_before_ = state_.options;
        if (!o_.init_from.empty()) { kept_ = read_kept_files(*resumed_); }
        lock_ = c.resumed->lock;
    } else if (!switch_.attention.empty()) {
        if (is_switched(config_, switch_)) {
            throw Error("--switch " + o_.switch_to + ": no layer would change");
        }
        switched(config_, switch_);  // throws now what it would throw then
    }
    if (init_) { kept_ = read_kept_files(*init_); }
    state_.options = c.values;
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

/* --switch: the same weights and moments under the other attention. They go through the host, so that never
   two models have to fit on the device. */
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
    progress_.line("attention is " + switch_.attention + " from step " + std::to_string(state_.step + 1) +
                   " on, after " + std::to_string(state_.tokens) + " tokens");
}

template <class E>
int Trainer<E>::remaining() const {
    int n = stage().steps - state_.stage_steps;
    for (int i = state_.stage + 1; i < (int)stages_.size(); i++) { n += stages_[i].steps; }
    return n;
}

// Of the stages to come, should none end early.
template <class E>
double Trainer<E>::tokens_left() const {
    double tokens = 0;
    for (int i = state_.stage; i < (int)stages_.size(); i++) {
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
    std::printf("\nsettings\n %s\n", settings_text(state_.options).c_str());
    std::printf("layers   %s\n", layer_names(config_, " ").c_str());
    std::printf("weights  %zu parameters, %zu without the embedding\n", model_->num_parameters(),
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
    int steps = 0;
    for (const Stage& s : stages_) { steps += s.steps; }
    const std::string rate = schedule_warning(o_.lr, steps);
    if (!rate.empty()) { std::printf("warning  %s\n", rate.c_str()); }
    if (!config_.has(AttentionKind::moba)) { return; }
    for (const Stage& s : stages_) {
        if (config_.is_full_at(s.T)) {
            std::printf("warning  top-k * block-size = %d >= T = %d: at this length MoBA is full attention\n",
                        config_.block_size * config_.top_k, s.T);
        } else {
            std::printf("sparsity T = %d: a moba layer leaves out %.0f%% of the causal pairs\n", s.T,
                        100 * config_.sparsity({AttentionKind::moba}, s.T));
        }
    }
}

template <class E>
void Trainer<E>::start() {
    const std::string& out = o_.out;
    std::error_code error;
    fs::create_directories(out, error);
    if (error) { throw Error("--out " + out + ": " + error.message()); }
    if (!lock_.take(out)) { throw Error(locked_folder(out)); }
    if (!latest_checkpoint(out).empty() && !o_.overwrite) {
        throw Error("--out " + out + ": holds a run already; go on with --resume, replace it with " +
                    "--overwrite, or name another folder");
    }
    allocate();
    model_->init_weights(o_.seed);
    if (init_) { load_weights(*init_, *model_); }
    clear_run(out);  // also what a run left that ended before its first checkpoint
}

template <class E>
void Trainer<E>::resume() {
    if (state_.stage >= (int)stages_.size()) {
        throw Error(resumed_->path + "/state.json: stage beyond the last");
    }
    if (stage().steps < state_.stage_steps) {
        throw Error("--steps " + std::to_string(stage().steps) + ": the run in " + o_.out + " has done " +
                    std::to_string(state_.stage_steps) + " already");
    }
    check_same_data(resumed_->data, fingerprint_, o_.out);
    restore_latest_link(o_.out, state_.step);
    allocate();
    load_checkpoint(*resumed_, *model_);
}

// The length that --steps or --epochs now give a resumed run.
template <class E>
void Trainer<E>::print_new_length() const {
    const json& before = options_before_;
    for (const char* name : {"steps", "epochs"}) {
        if (!before.contains(name) || before[name] == state_.options[name]) { continue; }
        std::printf(
            "length   --%s is %s, was %s; the learning rate follows the new length: %.3g at step %d\n", name,
            state_.options[name].dump().c_str(), before[name].dump().c_str(),
            learning_rate(o_.lr, state_.step + 1, remaining() - 1), state_.step + 1);
    }
}

template <class E>
int Trainer<E>::run() {
    print_settings();
    fingerprint_ = data_->fingerprint();
    if (resumed_) {
        resume();
        std::printf("resumed  %s at step %d\n", resumed_->path.c_str(), state_.step);
        print_new_length();
    } else {
        start();
    }
    std::fflush(stdout);
    log_.open(o_.out + "/log.jsonl", state_.step);
    note_stop_signals();
    const double begin = now_ms();
    if (resumed_ && validation_due() && !log_.validated()) { validate_model(); }
    while (remaining() > 0 && !stop_asked()) {
        if (!step()) { break; }
        if (validation_due()) { validate_model(); }
        if (o_.save_every && state_.step % o_.save_every == 0 && remaining() > 0) { save(); }
    }
    progress_.done();
    save();
    std::printf("%s at step %d after %s; model in %s/latest\n",
                stop_asked() && remaining() > 0 ? "stopped" : "done", state_.step,
                readable_seconds((now_ms() - begin) / 1000).c_str(), o_.out.c_str());
    if (remaining() > 0) {
        const std::string words = shell_text({"train", "--resume", "--out", o_.out});
        std::printf("go on with: moba %s\n", words.c_str());
    }
    return 0;
}

template <class E>
Draw Trainer<E>::draw(int stage, uint64_t first_sample) const {
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

/* While the device works on this step: the next one's samples, and the first micro-batch on its way. What
   this step still decides is whether its stage ends early; then step() draws again. The learning rate comes
   with the update. */
template <class E>
void Trainer<E>::draw_next() {
    if (remaining() == 0) { return; }
    const bool last_of_stage = state_.stage_steps == stage().steps && state_.stage + 1 < (int)stages_.size();
    try {
        next_ = draw(state_.stage + last_of_stage, state_.samples);
    } catch (const Error&) {
        return;  // take_draw() finds the same fault, after this step's results are in
    }
    set_batch(next_.batches[0], {o_.seed, (uint32_t)state_.step + 1, 0, 1.0 / next_.counted, 0});
    next_set_ = true;
}

// False: a signal came, and the step was not done.
template <class E>
bool Trainer<E>::step() {
    switch_if_due();
    const double begin = now_ms();
    const Draw drawn = take_draw();
    const std::optional<StepOutcome> outcome = train_step(drawn);
    if (!outcome) { return false; }
    check_finite(*outcome);
    report(*outcome, drawn, now_ms() - begin);
    advance_stage();
    return true;
}

template <class E>
void Trainer<E>::switch_if_due() {
    if (switch_.attention.empty() || is_switched(config_, switch_)) { return; }
    const double done = (double)state_.tokens;
    if (done >= switch_.share * (done + tokens_left())) { switch_attention(); }
}

/* The step's samples: drawn during the step before, unless that step ended a stage or there was none. */
template <class E>
Draw Trainer<E>::take_draw() {
    if (next_.batches.empty() || next_.stage != state_.stage || next_.first_sample != state_.samples) {
        read_or_save([&] { next_ = draw(state_.stage, state_.samples); });
        next_set_ = false;
    }
    return std::exchange(next_, {});
}

// When a file of the data can no longer be read, what was learnt is saved.
template <class E>
template <class Read>
void Trainer<E>::read_or_save(Read read) {
    try {
        read();
    } catch (const Error&) {
        progress_.done();
        save();
        throw;
    }
}

// Nothing when a signal came between two micro-batches: long steps are given up.
template <class E>
std::optional<StepOutcome> Trainer<E>::train_step(const Draw& drawn) {
    const RunState before = state_;
    state_.samples += (uint64_t)stage().batch * o_.grad_accum;
    state_.step++;
    state_.stage_steps++;
    state_.tokens += drawn.tokens;
    StepState now{.seed = o_.seed,
                  .step = (uint32_t)state_.step,
                  .micro_batch = 0,
                  .loss_scale = 1.0 / drawn.counted,
                  .learning_rate = learning_rate(o_.lr, state_.step, remaining())};
    bool replayed = true;
    model_->zero_gradients();
    for (const Batch& b : drawn.batches) {
        if (stop_asked()) {
            state_ = before;
            return {};
        }
        if (!next_set_) { set_batch(b, now); }
        next_set_ = false;
        replayed &= model_->training_passes();
        now.micro_batch++;
    }
    model_->update(now);
    draw_next();
    const auto [loss, correct, norm] = model_->step_result();  // waits
    return StepOutcome{loss / drawn.counted, correct / drawn.counted, norm, now.learning_rate, replayed};
}

template <class E>
void Trainer<E>::check_finite(const StepOutcome& r) {
    if (std::isfinite(r.loss) && std::isfinite(r.norm)) { return; }
    progress_.done();
    const std::string bad = model_->first_not_finite(), saved = latest_checkpoint(o_.out);
    throw Error("step " + std::to_string(state_.step) + ": " +
                (std::isfinite(r.loss) ? "gradient norm" : "loss") +
                " is not finite; first bad tensor: " + (bad.empty() ? "none (the sum overflowed)" : bad) +
                (saved.empty() ? ". No checkpoint had been saved" : ". " + saved + " is from before") +
                "; try a lower --lr");
}

// Averages, the line on the terminal, the line of log.jsonl.
template <class E>
void Trainer<E>::report(const StepOutcome& r, const Draw& drawn, double ms) {
    if (peak_flops_ == 0) { peak_flops_ = peak_flops<E>(parse_device(o_.device)); }
    const double gflops = drawn.flop / ms / 1e6, mfu = gflops * 1e9 / peak_flops_;
    const double ms_per_token = ms / drawn.tokens;
    state_.accuracy = state_.stage_steps == 1 ? r.accuracy : 0.9 * state_.accuracy + 0.1 * r.accuracy;
    ms_per_token_ = ms_per_token_ == 0 ? ms_per_token : 0.95 * ms_per_token_ + 0.05 * ms_per_token;
    progress_.step({state_.step, state_.step + remaining(), r.loss, state_.accuracy, r.norm, r.lr, ms, mfu,
                    drawn.tokens, tokens_left() * ms_per_token_ / 1000, stage_text(), r.replayed});
    json line = {{"step", state_.step},
                 {"loss", r.loss},
                 {"accuracy", r.accuracy},
                 {"grad_norm", r.norm},
                 {"lr", r.lr},
                 {"ms", ms},
                 {"tokens_per_s", drawn.tokens / ms * 1000},
                 {"gflops", gflops},
                 {"mfu", mfu},
                 {"seq_len", stage().T},
                 {"tokens", drawn.tokens}};
    if (find_device(model_->ctx().device)->graphs) { line["graph"] = r.replayed; }
    log_.write(line);
}

// What the progress line says of the place in the run: the epoch, or the length where it changes.
template <class E>
std::string Trainer<E>::stage_text() const {
    if (const uint64_t epoch = data_->samples_per_epoch(stage().T)) {
        char text[32];
        std::snprintf(text, sizeof text, "epoch %.2f", (double)state_.samples / (double)epoch);
        return text;
    }
    return stages_.size() > 1 ? "T=" + std::to_string(stage().T) : "";
}

// On to the next stage, when this one is learnt or out of its steps.
template <class E>
void Trainer<E>::advance_stage() {
    const Stage& s = stage();
    const bool learnt = o_.stage_accuracy > 0 && state_.accuracy >= o_.stage_accuracy;
    if (state_.stage + 1 == (int)stages_.size() || (!learnt && state_.stage_steps < s.steps)) { return; }
    state_.stage++;
    state_.stage_steps = 0;
    progress_.line("stage T=" + std::to_string(s.T) +
                   (learnt                   ? " learnt"
                    : o_.stage_accuracy == 0 ? " done"
                                             : " NOT learnt, out of its steps") +
                   " at step " + std::to_string(state_.step) + ", on to T=" + std::to_string(stage().T));
}

template <class E>
bool Trainer<E>::validation_due() const {
    return o_.eval_every && state_.step > 0 && (state_.step % o_.eval_every == 0 || remaining() == 0);
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
        if (stop_asked()) {
            progress_.line("stopped during the validation, which --resume does first");
            return;
        }
        Batch b;
        read_or_save([&] {
            for (int i = 0; i < final.batch && done < samples; i++) {
                data_->add_validation(done++, final.T, b);
            }
        });
        counted += b.counted();
        model_->set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, {});
        model_->forward();
        model_->loss(Pass::inference);
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
    log_.write({{"step", state_.step}, {"val_loss", loss}, {"val_accuracy", accuracy}});
}

template <class E>
void Trainer<E>::save() {
    json origin = {{"program", std::string("moba ") + program_version()},
                   {"commit", program_commit()},
                   {"seed", o_.seed},
                   {"step", state_.step},
                   {"init_from", o_.init_from}};
    // max_position_embeddings is then that of the first model
    if (!o_.init_from.empty()) { origin["seq_len"] = o_.seq_len; }
    json about = data_->origin();
    about["origin"] = origin;
    if (!fingerprint_.empty()) { about["data"]["fingerprint"] = fingerprint_; }
    save_checkpoint(o_.out, *model_, about, data_->tokenizer(), kept_, state_);
}

}  // namespace

TrainPlan plan_training(const TrainOptions& o) {
    return with_precision(o.precision, [&](auto e) {
        return Trainer<decltype(e)>({.options = o, .values = json::object(), .resumed = {}}).plan();
    });
}

int run_train(const TrainCommand& c) {
    return with_precision(c.options.precision, [&](auto e) { return Trainer<decltype(e)>(c).run(); });
}

}  // namespace moba
