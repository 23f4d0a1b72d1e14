// A training run begins, resumes, saves.
#include "moba/core/matmul.h"
#include "moba/core/parallel.h"
#include "train/core/device_choice.h"
#include "train/core/version.h"
#include "train/data/fingerprint.h"
#include "train/run/launch.h"
#include "train/run/trainer_impl.h"
#include <filesystem>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// A line or more for each group: "  Optimizer         lr=0.003 warmup=50", at most 100 columns wide.
std::string settings_text(const json& options, Shown shown) {
    const size_t indent = 20, width = 100;
    std::string text;
    for (const OptionGroup& group : option_groups(options, shown)) {
        std::string line = "  " + group.title;
        line.resize(indent - 1, ' ');
        for (const std::string& word : group.options) {
            if (line.size() >= indent && line.size() + 1 + word.size() > width) {
                text += line + "\n";
                line.assign(indent - 1, ' ');
            }
            line += " " + word;
        }
        text += line + "\n";
    }
    return text;
}

std::optional<ModelFolder> open_init(const TrainCommand& c) {
    if (c.resumed || c.options.init_from.empty()) { return {}; }
    return open_model(c.options.init_from);
}

// What texts are encoded with: the tokenizer of the run that continues, else the one that was named, else
// that of the model to start from.
std::string tokenizer_of(const TrainCommand& c, const std::optional<ModelFolder>& init) {
    if (c.resumed) { return c.resumed->folder.tokenizer; }
    return !c.options.tokenizer.empty() ? c.options.tokenizer : init ? init->tokenizer : "";
}

}  // namespace

// How many groups of ranks have different samples.
static int groups_of(const TrainOptions& o, int ranks) {
    const int C = o.context_parallel;
    if (ranks % C != 0) {
        throw Error("--context-parallel " + std::to_string(C) + ": the number of processes, " +
                    std::to_string(ranks) + ", must be a multiple of it");
    }
    if (C > 1 && (o.full_every > 0 || !o.switch_to.empty() || o.attention_impl == "naive")) {
        throw Error("--context-parallel: not with --full-every, --switch or --attention-impl naive");
    }
    return ranks / C;
}

template <class E>
Trainer<E>::Trainer(const TrainCommand& c, Comm& comm, std::unique_ptr<Data> data)
    : o_(c.options), comm_(comm), group_(comm.rank() / o_.context_parallel),
      groups_(groups_of(o_, comm.size())), init_(open_init(c)),
      data_(data ? std::move(data) : open_data(o_, tokenizer_of(c, init_))),
      stages_(training_stages(o_, *data_)), config_(training_config(c, *data_, init_)),
      sizes_(training_sizes(o_, *data_, stages_, groups_)), progress_(o_.log_every),
      switch_(parse_switch(o_.switch_to)) {
    o_.lr.schedule = parse_lr_schedule(o_.lr_schedule);
    int steps = 0;
    for (const Stage& s : stages_) { steps += s.steps; }
    const FittedLr fitted = fit_to_run(o_.lr, steps);
    o_.lr = fitted.settings, schedule_note_ = fitted.note;
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
        // checks the switch now, so that a wrong one does not fail in the middle of the run
        switched(config_, switch_);
    }
    if (o_.full_every > 0 && !config_.has(AttentionKind::moba) && switch_.attention.empty()) {
        throw Error("--full-every " + std::to_string(o_.full_every) + ": the model has no moba layers");
    }
    if (init_) { kept_ = read_kept_files(*init_); }
    state_.options = c.values;
    make_model();
}

template <class E>
void Trainer<E>::make_model() {
    model_ = std::make_unique<Model<E>>(config_, sizes_, parse_device(o_.device), comm_);
    model_->set_graph(!o_.no_graph);
    next_set_ = false;
}

template <class E>
void Trainer<E>::allocate() {
    model_->allocate();
    model_->set_optimizer({o_.beta1, o_.beta2, 1e-8, o_.weight_decay, o_.grad_clip, o_.embedding_lr_factor});
}

/* --switch: the same weights and moments under the other attention. They go through the host, so that the
   device never holds two models. */
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

/* What must be the same on all ranks: options, data, and the state of a run that continues. */
template <class E>
json Trainer<E>::settings() const {
    json all = options_of(state_.options);
    all["the state of the run"] = state_;
    all["the state of the run"].erase("options");
    for (const auto& [name, value] : fingerprint_.items()) { all["the content of --" + name] = value; }
    return all;
}

template <class E>
void Trainer<E>::print_settings() const {
    const Device device = parse_device(o_.device);
    std::printf("moba %s (%s) on %s", program_version(), program_commit(), find_device(device)->name());
    if (device == Device::cpu) {
        std::printf(", matrix products: %s, %d threads",
                    std::strcmp(blas_name(), "none") ? blas_name() : "own loop", max_threads());
    }
    if (comm_.size() > 1) {
        std::printf(", %d ranks, %d on this machine", comm_.size(), comm_.local_size());
        if (o_.context_parallel > 1) { std::printf(", %d share each sample", o_.context_parallel); }
    }
    std::printf("\n%s\n%s",
                o_.verbose ? "settings"
                           : "settings that differ from the defaults for a task (all: --verbose)",
                settings_text(state_.options, o_.verbose ? Shown::all : Shown::changed).c_str());
    std::printf("layers   %s\n", layer_summary(config_).c_str());
    std::printf("weights  %zu parameters, %zu without the embedding\n", model_->num_parameters(),
                model_->num_parameters() - model_->params()[0].count);
    std::printf("%s", memory_text().c_str());
    const DeviceOps* device_ops = find_device(device);
    if (const size_t taken = device_ops->taken()) {
        std::printf("; context, libraries and others hold %s, %s stay free", readable_bytes(taken).c_str(),
                    readable_bytes(device_ops->reserve()).c_str());
    }
    std::printf("\n");
    std::printf("data     %s\n", data_->about().c_str());
    if (!schedule_note_.empty()) { std::printf("schedule %s\n", schedule_note_.c_str()); }
    if (!config_.has(AttentionKind::moba)) { return; }
    const int T = stages_.back().T;  // earlier stages of a curriculum may be short enough for full attention
    if (config_.is_full_at(T)) {
        std::printf("warning  top-k * block-size = %d >= T = %d: at this length MoBA is full attention\n",
                    config_.block_size * config_.top_k, T);
    } else {
        std::printf("sparsity T = %d: a moba layer leaves out %.0f%% of the causal pairs\n", T,
                    100 * config_.sparsity({AttentionKind::moba}, T));
    }
}

template <class E>
std::string Trainer<E>::memory_text() const {
    std::string text = comm_.size() > 1 ? "memory of each rank:" : "memory  ";
    for (const auto& l : model_->lists()) { text += " " + l.name + " " + readable_bytes(l.bytes) + ","; }
    return text + " in all " + readable_bytes(model_->bytes());
}

template <class E>
void Trainer<E>::refuse_occupied_folder() const {
    if (o_.overwrite || latest_checkpoint(o_.out).empty()) { return; }
    throw Error("--out " + o_.out + ": holds a run already; go on with --resume, replace it with " +
                "--overwrite, or name another folder");
}

template <class E>
void Trainer<E>::start() {
    together(comm_, [&] {
        if (is_first()) { take_folder(); }
        allocate();
    });
    model_->init_weights(o_.seed);
    if (init_) { load_weights(*init_, *model_); }
    // also what a run left that ended before its first checkpoint
    if (is_first()) { clear_run(o_.out); }
}

template <class E>
void Trainer<E>::take_folder() {
    const std::string& out = o_.out;
    std::error_code error;
    fs::create_directories(out, error);
    if (error) { throw Error("--out " + out + ": " + error.message()); }
    if (!lock_.take(out)) { throw Error(locked_folder(out)); }
    refuse_occupied_folder();  // again: another process may have trained there meanwhile
}

template <class E>
void Trainer<E>::resume() {
    together(comm_, [&] {
        if (state_.stage >= (int)stages_.size()) {
            throw Error(resumed_->path + "/state.json: stage beyond the last");
        }
        if (stage().steps < state_.stage_steps) {
            throw Error("--steps " + std::to_string(stage().steps) + ": the run in " + o_.out + " has done " +
                        std::to_string(state_.stage_steps) + " already");
        }
        check_same_data(resumed_->data, fingerprint_, o_.out);
        if (is_first()) { restore_latest_link(o_.out, state_.step); }
        allocate();
    });
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

template class Trainer<float>;
template class Trainer<bf16>;

}  // namespace moba
