#include "train/plan/plan.h"
#include "moba/sent_bytes.h"
#include "train/core/device_choice.h"
#include "train/display/numbers.h"
#include "train/options/option_builder.h"
#include "train/plan/step_time.h"
#include "train/run/sent_line.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

struct PlanOptions {
    int ranks = 1, vocab = 0;
    std::string card = "h100";
    double net = 400;
};

void add_plan_options(CLI::App& app, PlanOptions& o) {
    start_options(app);
    add(app, "--ranks", o.ranks, "RANKS", "Processes, each with a GPU.")->check(whole(1, 1 << 16));
    add(app, "--card", o.card, "CARD", "The GPU of each rank: " + lab_card_names() + ".")
        ->check(one_of(lab_card_ids()));
    add(app, "--net", o.net, "GBIT", "What a rank can send to others, in 10^9 bits a second.")
        ->check(between(0.001, 1e6));
    add(app, "--vocab-size", o.vocab, "TOKENS",
        "Plan for a text with a vocabulary of this size, each token a target, without having it. 0: for the "
        "data or the task that the options name.")
        ->check(whole(0, most_tokens));
    app.footer("And all options of moba train: the plan is that of a step of its last stage.");
}

/* A text of which only the size of the vocabulary is known. */
class AnyText : public Data {
  public:
    explicit AnyText(int vocab) : vocab_(vocab) {}
    int vocab_size() const override { return vocab_; }
    std::string about() const override { return "any text"; }
    void check(const Stage&) const override {}
    int max_sequences(const Stage& s) const override { return s.batch; }
    void add_sample(uint64_t, const Stage& s, Batch& b) const override {
        b.tokens.resize(b.tokens.size() + s.T), b.targets.resize(b.targets.size() + s.T);
        b.cu_seqlens.push_back((int)b.tokens.size());
    }
    int num_validation(int) const override { return 0; }
    void add_validation(int, int, Batch&) const override {}
    std::string validation_name() const override { return ""; }
    nlohmann::json origin() const override { return {}; }

  private:
    int vocab_;
};

// Without a GPU, as a CPU's memory would be planned: only the workspace differs.
bool has_gpu() {
    try {
        parse_device("gpu");
        return true;
    } catch (const Error&) { return false; }
}

std::vector<StepBytes> sent_by_ranks(const StepPlan& p, const TrainOptions& o, int ranks) {
    const NumberBytes number{o.precision == "bf16" ? sizeof(bf16) : sizeof(float), sizeof(float)};
    const int C = o.context_parallel;
    std::vector<StepBytes> sent(ranks, {update_bytes(p.config, ranks, number)});
    for (const std::vector<StepPlan::Samples>& groups : p.batches) {
        for (int group = 0; C > 1 && group < ranks / C; group++) {
            const std::vector<int>& cu = groups[group].cu_seqlens;
            if (cu.back() == 0) { continue; }
            const auto bytes = [&](Sending way) {
                return attention_bytes(p.config, cu, C, number, o.recompute, way);
            };
            const auto ours = bytes(Sending::ours), ring = bytes(Sending::ring),
                       gathering = bytes(Sending::gathering);
            for (int r = 0; r < C; r++) {
                StepBytes& s = sent[group * C + r];
                s.all += ours[r], s.attention += ours[r], s.ring += ring[r], s.gathering += gathering[r];
            }
        }
    }
    return sent;
}

std::string seconds_text(double s) { return s < 1 ? formatted("%.3g ms", 1000 * s) : formatted("%.3g s", s); }

void print_row(const char* what, double seconds, const std::string& why) {
    std::printf("  %-26s %9s   %s\n", what, seconds_text(seconds).c_str(), why.c_str());
}

void print_time(const StepPlan& p, const TrainOptions& o, const PlanOptions& plan, double bytes_sent) {
    const bool low = o.precision == "bf16";
    const LabCard& card = lab_card(plan.card);
    const StepWork w = step_work(p, plan.ranks, o.context_parallel, o.recompute, low);
    const StepTime t = step_time(card, p.config, w, low);
    const double sent = bytes_sent * 8 / (plan.net * 1e9), all = t.sum() + sent;
    double tokens = 0;
    for (const auto& groups : p.batches) {
        for (const StepPlan::Samples& s : groups) { tokens += s.cu_seqlens.back(); }
    }
    std::printf("time of a step on %d x %s, predicted from speeds reached on an H100 and an H200\n",
                plan.ranks, card.name);
    print_row("matrix products", t.products, readable_number(w.products) + " flop of a rank");
    print_row("attention", t.attention, readable_number(w.moba + w.dense) + " flop");
    if (w.choice > 0) { print_row("choice of blocks", t.choice, readable_number(w.choice) + " flop"); }
    print_row("everything else", t.rest, readable_number(w.bytes) + " bytes of GPU memory");
    if (plan.ranks > 1) { print_row("sending", sent, formatted("at %g Gbit/s", plan.net)); }
    print_row("in all", all, readable_number(tokens / all) + " tokens/s");
}

}  // namespace

int run_plan(const std::vector<std::string>& words) {
    PlanOptions plan;
    CLI::App app("moba plan: memory, bytes sent and time of a training step, on paper", "moba plan");
    add_plan_options(app, plan);
    app.allow_extras();
    parse_words(app, words);
    const TrainCommand train = parse_train(app.remaining(), false);
    const TrainOptions& o = train.options;
    const bool gpus = o.device != "cpu";
    if (o.full_every > 0 || !o.switch_to.empty()) {
        throw Error("moba plan: not with --full-every or --switch; plan each kind of step by itself");
    }
    if (plan.vocab > 0 && (train.resumed || !o.init_from.empty() || !o.data.empty() || o.has("task"))) {
        throw Error(
            "--vocab-size: not with --resume, --init-from, --data or --task, which have a vocabulary");
    }
    const auto on = [&](int ranks, int context) {
        TrainCommand here = train;
        here.options.device = gpus && has_gpu() ? "gpu" : "cpu";
        here.options.context_parallel = context;
        const std::unique_ptr<Comm> comm = Comm::planned(ranks, gpus);
        return plan_step(here, *comm, plan.vocab ? std::make_unique<AnyText>(plan.vocab) : nullptr);
    };
    const StepPlan p = on(plan.ranks, o.context_parallel);
    std::printf("layers   %s\n", layer_summary(p.config).c_str());
    std::printf("weights  %zu parameters\n", p.parameters);
    std::printf("%s\n", p.memory.c_str());
    const LabCard& card = lab_card(plan.card);
    const size_t not_free = 2ul << 30;  // CUDA, its libraries, and what the program keeps free
    std::printf("         a card (%s) has %s, %s of it not free%s", card.name,
                readable_bytes(card.memory).c_str(), readable_bytes(not_free).c_str(),
                p.memory_bytes + not_free > card.memory ? ": too little" : "");
    if (plan.ranks > 1) {
        std::printf("; one rank alone would need %s", readable_bytes(on(1, 1).memory_bytes).c_str());
    }
    std::printf("\n");
    double most = 0;
    if (plan.ranks > 1) {
        const std::vector<StepBytes> sent = sent_by_ranks(p, o, plan.ranks);
        std::printf("%s\n", sent_line(sent, o.context_parallel > 1).c_str());
        for (const StepBytes& s : sent) { most = std::max(most, s.all); }
    }
    print_time(p, o, plan, most);
    return 0;
}

}  // namespace moba
