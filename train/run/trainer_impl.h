/* The Trainer itself: trainer.cpp has its steps, trainer_state.cpp its beginning and its checkpoints. */
#pragma once
#include "train/core/progress.h"
#include "train/files/run_log.h"
#include "train/run/sent_line.h"
#include "train/run/share.h"
#include "train/run/train_plan.h"
#include "train/run/trainer.h"
#include <nlohmann/json.hpp>

namespace moba {

// The micro-batches of a step.
struct Draw {
    int stage = 0;
    uint64_t first_sample = 0;
    std::vector<Share> batches;  // empty: nothing has been drawn
    int counted = 0;             // targets, of all ranks
    long tokens = 0;             // of all ranks
    double flop = 0;             // of all ranks
};

// What a step gave.
struct StepOutcome {
    double loss, accuracy, norm;  // means over the counted targets; norm of the gradient, before clipping
    double lr;
    bool replayed;  // all passes came from a recorded graph
};

template <class E>
class Trainer {
    using json = nlohmann::json;

  public:
    /* data: instead of what the options name. */
    Trainer(const TrainCommand&, Comm&, std::unique_ptr<Data> data = nullptr);
    int run();
    TrainPlan plan() const {
        return {config_, model_->num_parameters(), model_->bytes(), data_->fingerprint()};
    }
    StepPlan plan_step() const;

  private:
    void resume();
    void refuse_occupied_folder() const;
    void start();
    void take_folder();
    bool is_first() const { return comm_.rank() == 0; }  // the rank that writes and prints
    json settings() const;
    void print_settings() const;
    std::string memory_text() const;
    double share_of_peak(double flops);
    bool step();
    void switch_if_due();
    std::string take_draw();
    bool all_go_on(const std::string& problem);
    bool stop() const;
    std::optional<StepOutcome> train_step(const Draw&);
    void check_finite(const StepOutcome&);
    void report(const StepOutcome&, const Draw&, double ms);
    void advance_stage();
    std::string stage_text() const;
    Draw draw(int stage, uint64_t first_sample) const;
    void set_batch(const Share&, const StepState&);
    void draw_next();
    bool validation_due() const;
    void validate_model();
    void save();
    void print_new_length() const;
    void count_sent(const Draw&, size_t before, size_t attention_before);
    void print_sent();
    int remaining() const;
    bool is_full_step(int step) const;  // --full-every
    double tokens_left() const;
    void make_model();
    void allocate();
    void switch_attention();
    const Stage& stage() const { return stages_[state_.stage]; }

    TrainOptions o_;
    Comm& comm_;
    int group_, groups_;                         // --context-parallel: the ranks of a group share samples
    bool stopping_ = false;                      // a rank was asked to stop
    std::optional<ModelFolder> resumed_, init_;  // of --resume, of --init-from
    std::unique_ptr<Data> data_;
    std::vector<Stage> stages_;
    Config config_;
    ModelSizes sizes_;
    std::unique_ptr<Model<E>> model_;
    RunState state_;
    StepBytes sent_;         // by this rank, in the steps since this process began
    int steps_counted_ = 0;  // in sent_
    Draw next_;              // of the next step, perhaps drawn in advance
    bool next_set_ = false;  // its first micro-batch is the model's batch
    Progress progress_;
    KeptFiles kept_;  // of --init-from
    RunLog log_;
    FolderLock lock_;                // of o_.out
    nlohmann::json options_before_;  // of a run that is resumed
    nlohmann::json fingerprint_;     // of data_
    double ms_per_token_ = 0, peak_flops_ = 0;
    int peaks_measured_ = 0;
    std::string schedule_note_;  // what fit_to_run() changed
    Switch switch_;
};

}  // namespace moba
