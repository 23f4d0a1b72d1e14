#include "moba/sent_bytes.h"
#include "train/core/device_choice.h"
#include "train/core/flops.h"
#include "train/core/shell_text.h"
#include "train/core/utf8.h"
#include "train/display/numbers.h"
#include "train/files/run_folder.h"
#include "train/run/launch.h"
#include "train/run/stop_signal.h"
#include "train/run/text_sample.h"
#include "train/run/trainer_impl.h"
#include <algorithm>

namespace moba {

using nlohmann::json;

template <class E>
int Trainer<E>::remaining() const {
    int n = stage().steps - state_.stage_steps;
    for (int i = state_.stage + 1; i < (int)stages_.size(); i++) { n += stages_[i].steps; }
    return n;
}

// Tokens of all remaining steps, if no stage ends early.
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
int Trainer<E>::run() {
    together(comm_, [&] {
        if (!resumed_ && is_first()) { refuse_occupied_folder(); }
        fingerprint_ = data_->fingerprint();
    });
    check_same_values(comm_, settings());
    print_settings();
    if (resumed_) {
        resume();
        std::printf("resumed  %s at step %d\n", resumed_->path.c_str(), state_.step);
        print_new_length();
    } else {
        start();
    }
    std::fflush(stdout);
    together(comm_, [&] {
        if (is_first()) { log_.open(o_.out + "/log.jsonl", state_.step); }
    });
    note_stop_signals();
    const double begin = now_ms();
    bool validated = log_.validated();
    comm_.broadcast(&validated, sizeof validated);
    if (resumed_ && validation_due() && !validated) { validate_model(); }
    while (remaining() > 0 && !stop()) {
        if (!step()) { break; }
        if (validation_due()) { validate_model(); }
        if (o_.save_every && state_.step % o_.save_every == 0 && remaining() > 0) { save(); }
    }
    progress_.done();
    save();
    std::printf("%s at step %d after %s; model in %s/latest\n",
                stop() && remaining() > 0 ? "stopped" : "done", state_.step,
                readable_seconds((now_ms() - begin) / 1000).c_str(), o_.out.c_str());
    print_sent();
    if (remaining() > 0) {
        std::printf("go on with: %s\n", program_text({"train", "--resume", "--out", o_.out}).c_str());
    }
    return 0;
}

template <class E>
Draw Trainer<E>::draw(int stage, uint64_t first_sample) const {
    const Stage& s = stages_[stage];
    Draw d{stage, first_sample, {}};
    for (int micro = 0; micro < o_.grad_accum; micro++) {
        d.batches.push_back(
            share_of(group_, groups_, s.batch, [&](Batch& b) { data_->add_sample(first_sample++, s, b); }));
        const Share& b = d.batches.back();
        d.counted += b.counted;
        d.tokens += b.tokens;
        d.flop += step_flop(is_full_step(state_.step + 1) ? switched(config_, {"full"}) : config_,
                            model_->num_parameters(), b.all_cu_seqlens, b.counted);
    }
    return d;
}

template <class E>
bool Trainer<E>::is_full_step(int step) const {
    return o_.full_every > 0 && step % o_.full_every == 0;
}

template <class E>
void Trainer<E>::set_batch(const Share& s, const StepState& step) {
    const Batch& b = s.batch;
    model_->set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, step, s.first);
}

/* Called while the device computes this step. Draws the samples of the next step and uploads its first
   micro-batch. If this step ends its stage early, take_draw() draws again. */
template <class E>
void Trainer<E>::draw_next() {
    if (remaining() == 0) { return; }
    const bool last_of_stage = state_.stage_steps == stage().steps && state_.stage + 1 < (int)stages_.size();
    try {
        next_ = draw(state_.stage + last_of_stage, state_.samples);
    } catch (const Error&) {
        return;  // take_draw() draws again after this step, and reports the error
    }
    if (next_.batches[0].empty()) { return; }
    // learning rate 0: update() gets the real one
    set_batch(next_.batches[0], {o_.seed, (uint32_t)state_.step + 1, 0, 1.0 / next_.counted, 0});
    next_set_ = true;
}

// Returns false if a stop signal came; the step is then not done.
template <class E>
bool Trainer<E>::step() {
    switch_if_due();
    const double begin = now_ms();
    const std::string problem = take_draw();
    if (!all_go_on(problem)) { return false; }
    const Draw drawn = std::exchange(next_, {});
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

// The samples of this step, in next_. draw_next() has drawn them, unless the previous step ended its stage
// early or there was none. Returns why they cannot be drawn, if so.
template <class E>
std::string Trainer<E>::take_draw() {
    if (next_.batches.empty() || next_.stage != state_.stage || next_.first_sample != state_.samples) {
        next_set_ = false;
        try {
            next_ = draw(state_.stage, state_.samples);
        } catch (const Error& e) { return e.what(); }
    }
    return "";
}

/* False if a rank was asked to stop. If one has a problem (a data file that can no longer be read), saves a
   checkpoint before the error is reported. */
template <class E>
bool Trainer<E>::all_go_on(const std::string& problem) {
    double ranks[2] = {stop_asked() ? 1.0 : 0.0, problem.empty() ? 0.0 : 1.0};
    comm_.all_reduce(ranks, 2);
    if (ranks[1] > 0) {
        progress_.done();
        save();
        comm_.agree(problem);
    }
    stopping_ = ranks[0] > 0;
    return !stopping_;
}

// A rank alone stops at once; several when they have agreed on it.
template <class E>
bool Trainer<E>::stop() const {
    return comm_.size() == 1 ? stop_asked() : stopping_;
}

// Returns nothing if a stop signal came between two micro-batches; the unfinished step is discarded.
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
    const size_t sent = comm_.sent(), attention_sent = model_->attention_sent();
    model_->set_full(is_full_step(state_.step));
    model_->zero_gradients();
    for (const Share& b : drawn.batches) {
        const bool last = &b == &drawn.batches.back();
        if (stop()) {
            state_ = before;
            model_->set_full(false);
            return {};
        }
        if (!b.empty()) {
            if (!next_set_) { set_batch(b, now); }
            replayed &= model_->training_passes(last);
        } else {
            replayed = false;
            if (last) { model_->skip_last_passes(); }
        }
        next_set_ = false;
        now.micro_batch++;
    }
    model_->set_full(false);
    model_->update(now);
    count_sent(drawn, sent, attention_sent);
    draw_next();
    const auto [loss, correct, norm] = model_->step_result();  // waits
    double sums[2] = {loss, correct};
    comm_.all_reduce(sums, 2);
    return StepOutcome{sums[0] / drawn.counted, sums[1] / drawn.counted, norm, now.learning_rate, replayed};
}

template <class E>
void Trainer<E>::count_sent(const Draw& drawn, size_t before, size_t attention_before) {
    if (comm_.size() == 1) { return; }
    sent_.all += (double)(comm_.sent() - before);
    sent_.attention += (double)(model_->attention_sent() - attention_before);
    steps_counted_++;
    const int C = o_.context_parallel;
    if (C == 1) { return; }
    const auto instead = [&](const Share& b, Sending way) {
        return attention_bytes(config_, b.batch.cu_seqlens, C, {sizeof(E), sizeof(acc_t<E>)}, o_.recompute,
                               way)[comm_.rank() % C];
    };
    for (const Share& b : drawn.batches) {
        if (b.empty()) { continue; }
        sent_.ring += instead(b, Sending::ring), sent_.gathering += instead(b, Sending::gathering);
    }
}

// What the rank that sent most sent in a step, on average.
template <class E>
void Trainer<E>::print_sent() {
    if (steps_counted_ == 0) { return; }
    const size_t R = comm_.size();
    std::vector<StepBytes> of_ranks(R);
    of_ranks[comm_.rank()] = sent_;
    static_assert(sizeof(StepBytes) == 4 * sizeof(double));
    comm_.all_reduce(&of_ranks[0].all, 4 * R);
    for (StepBytes& b : of_ranks) {
        b = {b.all / steps_counted_, b.attention / steps_counted_, b.ring / steps_counted_,
             b.gathering / steps_counted_};
    }
    std::printf("%s\n", sent_line(of_ranks, o_.context_parallel > 1).c_str());
}

template <class E>
void Trainer<E>::check_finite(const StepOutcome& r) {
    if (std::isfinite(r.loss) && std::isfinite(r.norm)) { return; }
    progress_.done();
    const std::string bad = model_->first_not_finite(), saved = latest_checkpoint(o_.out);
    comm_.agree("step " + std::to_string(state_.step) + ": " +
                (std::isfinite(r.loss) ? "gradient norm" : "loss") +
                " is not finite; first bad tensor: " + (bad.empty() ? "none (the sum overflowed)" : bad) +
                (saved.empty() ? ". No checkpoint had been saved" : ". " + saved + " is from before") +
                "; try a lower --lr");
}

/* The MFU of a step. A machine that was busy while its peak was measured seems to exceed it: then the peak is
   measured again, a few times in a run. NaN if the step still seems faster than the peak. */
template <class E>
double Trainer<E>::share_of_peak(double flops) {
    constexpr int most = 5;
    const Device device = parse_device(o_.device);
    if (peaks_measured_ == 0) { peak_flops_ = peak_flops<E>(device), peaks_measured_ = 1; }
    if (flops > peak_flops_ && peaks_measured_ < most) {
        peak_flops_ = std::max(peak_flops_, peak_flops<E>(device)), peaks_measured_++;
    }
    return flops <= peak_flops_ ? flops / peak_flops_ : NAN;
}

// Averages, the line on the terminal, the line of log.jsonl.
template <class E>
void Trainer<E>::report(const StepOutcome& r, const Draw& drawn, double ms) {
    state_.accuracy = state_.stage_steps == 1 ? r.accuracy : 0.9 * state_.accuracy + 0.1 * r.accuracy;
    if (!is_first()) { return; }
    const double gflops = drawn.flop / ms / 1e6, mfu = share_of_peak(gflops * 1e9 / comm_.size());
    const double ms_per_token = ms / drawn.tokens;
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

// Text for the progress line: the epoch, or T in a curriculum.
template <class E>
std::string Trainer<E>::stage_text() const {
    if (const uint64_t epoch = data_->samples_per_epoch(stage().T)) {
        char text[32];
        std::snprintf(text, sizeof text, "epoch %.2f", (double)state_.samples / (double)epoch);
        return text;
    }
    return stages_.size() > 1 ? "T=" + std::to_string(stage().T) : "";
}

// Goes to the next stage when this one is learnt or has no steps left.
template <class E>
void Trainer<E>::advance_stage() {
    const Stage& s = stage();
    const bool learnt = o_.stage_accuracy > 0 && state_.accuracy >= o_.stage_accuracy;
    if (state_.stage + 1 == (int)stages_.size() || (!learnt && state_.stage_steps < s.steps)) { return; }
    state_.stage++;
    state_.stage_steps = 0;
    const bool on_time = learnt || o_.stage_accuracy == 0;
    progress_.line("stage T=" + std::to_string(s.T) + (learnt ? " learnt" : " ended") + " at step " +
                   std::to_string(state_.step) + (on_time ? "" : ", accuracy " + percent(state_.accuracy)) +
                   ", on to T=" + std::to_string(stage().T));
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
    double sums[2] = {0, 0};  // loss, right
    long counted = 0;
    std::vector<float> losses;
    std::vector<int> correct;
    next_set_ = false;
    for (int done = 0; done < samples;) {
        Share share;
        std::string problem;
        try {
            share = share_of(group_, groups_, std::min(final.batch, samples - done),
                             [&](Batch& b) { data_->add_validation(done++, final.T, b); });
        } catch (const Error& e) { problem = e.what(); }
        if (!all_go_on(problem)) {
            progress_.line("stopped during the validation, which --resume does first");
            return;
        }
        counted += share.counted;
        if (share.empty()) { continue; }
        set_batch(share, {});
        model_->forward();
        model_->loss(Pass::inference);
        model_->read_losses(losses, correct);
        for (float x : losses) { sums[0] += x; }
        for (int c : correct) { sums[1] += c; }
    }
    comm_.all_reduce(sums, 2);
    const double loss = sums[0] / (double)counted, accuracy = sums[1] / (double)counted;
    if (!is_first()) { return; }
    char text[160];
    std::snprintf(text, sizeof text, "validation at step %d: loss %.4f, accuracy %.1f%% (%d %s of %d tokens)",
                  state_.step, loss, 100 * accuracy, samples, data_->validation_name().c_str(), final.T);
    progress_.line(text);
    json line = {{"step", state_.step}, {"val_loss", loss}, {"val_accuracy", accuracy}};
    Rng rng(o_.seed, Purpose::sampling, (uint64_t)state_.step);
    // Ranks that share samples would all have to compute it.
    const auto sample =
        o_.context_parallel > 1 ? std::optional<TextSample>() : text_sample(*model_, *data_, final.T, rng);
    if (sample) {
        progress_.line("sample: \"" + visible_text(sample->prompt) + "\" -> \"" + visible_text(sample->text) +
                       "\"");
        line["prompt"] = valid_utf8(sample->prompt);
        line["sample"] = valid_utf8(sample->text);
    }
    log_.write(line);
}

template class Trainer<float>;
template class Trainer<bf16>;

TrainPlan plan_training(const TrainOptions& o) {
    return with_precision(o.precision, [&](auto e) {
        Comm alone;
        return Trainer<decltype(e)>({.options = o, .values = json::object(), .resumed = {}}, alone).plan();
    });
}

template <class E>
StepPlan Trainer<E>::plan_step() const {
    StepPlan p{config_, model_->num_parameters(), model_->bytes(), memory_text(), {}};
    const Stage& s = stages_.back();
    uint64_t sample = 0;
    for (int micro = 0; micro < o_.grad_accum; micro++) {
        auto& groups = p.batches.emplace_back(groups_);
        for (int group = 0; group < groups_; group++) {
            StepPlan::Samples& all = groups[group];
            for (long i = first_sample_of(group, groups_, s.batch);
                 i < first_sample_of(group + 1, groups_, s.batch); i++) {
                Batch one;
                data_->add_sample(sample++, s, one);
                const int begin = all.cu_seqlens.back();
                for (size_t n = 1; n < one.cu_seqlens.size(); n++) {
                    all.cu_seqlens.push_back(begin + one.cu_seqlens[n]);
                }
                all.counted += one.counted();
            }
        }
    }
    return p;
}

StepPlan plan_step(const TrainCommand& c, Comm& comm, std::unique_ptr<Data> data) {
    return with_precision(c.options.precision,
                          [&](auto e) { return Trainer<decltype(e)>(c, comm, std::move(data)).plan_step(); });
}

int run_train(Comm& comm, const std::vector<std::string>& words) {
    TrainCommand c;
    together(comm, [&] {
        c = parse_train(words, comm.rank() == 0);
        if (!c.resumed) { refuse_idle_options(c.options); }
    });
    comm.set_timeout(c.options.timeout);
    Device device{};
    together(comm, [&] { device = parse_device(c.options.device); });
    check_same_values(comm, {{"the device", device == Device::cpu ? "cpu" : "gpu"}});
    if (comm.size() > 1) { comm.set_device(find_device(device)->comm(comm)); }
    return with_precision(c.options.precision, [&](auto e) {
        std::unique_ptr<Trainer<decltype(e)>> trainer;
        // Rank 0 first: it encodes texts, and the others find them encoded.
        for (const bool first : {true, false}) {
            together(comm, [&] {
                if (first == (comm.rank() == 0)) {
                    trainer = std::make_unique<Trainer<decltype(e)>>(c, comm);
                }
            });
        }
        return trainer->run();
    });
}

}  // namespace moba
