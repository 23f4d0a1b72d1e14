#include "moba/choice_overlap.h"
#include "train/core/device_choice.h"
#include "train/core/statistics.h"
#include "train/display/heat_map.h"
#include "train/display/numbers.h"
#include "train/eval/evaluate_impl.h"
#include "train/eval/router_reach.h"
#include "train/eval/router_recall.h"
#include "train/options/options.h"
#include "train/run/prompt.h"
#include <algorithm>
#include <map>

namespace moba {

using nlohmann::json;

namespace {

// How a task is computed at one length: how many samples together, and which layers.
template <class E>
struct Passes {
    using Layers = typename Scorer<E>::Layers;
    int batch;
    Layers layers;

    Passes(const EvalOptions& o, const Config& c, const Task& task, int T, int samples, int ranks)
        : batch(std::max(1, std::min(ceil_div(samples, ranks), o.batch_tokens / T))) {
        // Only the last layer of a short pass can tell the choices of its queries.
        const bool choices_below = std::any_of(c.layers.begin(), c.layers.end() - 1, [](const LayerKind& k) {
            return k.attention == AttentionKind::moba;
        });
        // Each asked token of a short pass is computed by itself, so it is for few of them.
        Sample test;
        Rng rng(o.seed, Purpose::eval_data, 0);
        task.draw_test(rng, T, 0, test);
        const auto asked =
            std::count_if(test.targets.begin(), test.targets.end(), [](int t) { return t != ignored; });
        layers = o.router && choices_below                     ? Layers::kept
                 : batch == 1 && asked <= std::max(1, T / 256) ? Layers::short_last
                 : o.router                                    ? Layers::kept
                                                               : Layers::overwritten;
    }
};

/* Evaluates a task at one length. An answer is right when all its tokens are. Greedy decoding gets all of
   them right exactly when each one is the most likely token after the right tokens before it, so one pass
   over the whole sample, answer included, is enough. */
template <class E>
class TaskEvaluation {
  public:
    TaskEvaluation(const EvalOptions& o, const Config& config, const ModelFolder& folder, const Task& task,
                   int T, int samples, Comm& comm)
        : o_(o), comm_(comm), task_(task), T_(T), samples_(samples),
          passes_(o, config, task, T, samples, comm.size()),
          scorer_(folder, config, passes_.batch * T, passes_.batch, T, parse_device(o.device),
                  passes_.layers) {}

    /* Evaluates range d of `depths` equal ranges of depth. The depth of each test is drawn within the range:
       at a fixed depth the pairs would lie at the same few offsets in their blocks, and MoBA is worse where a
       pair is split between two blocks. */
    Tally run(int d, int depths) {
        Tally tally;
        for (int done = 0; done < samples_;) {
            std::vector<Batch> batches;  // one for each rank
            while ((int)batches.size() < comm_.size() && done < samples_) {
                const int count = std::min(passes_.batch, samples_ - done);
                batches.push_back(draw(d, depths, done, count));
                done += count;
            }
            const auto scores = scorer_.run(batches, comm_);
            if (o_.router) { add_router(batches[0]); }
            for (size_t i = 0; i < batches.size(); i++) { tally.add(count_right(batches[i], scores[i])); }
        }
        return tally;
    }
    PositionLoss position_loss;
    RouterRecall router;
    ChoiceOverlap overlap;
    Tally reach;

  private:
    Batch draw(int d, int depths, int first, int count) {
        Batch b;
        Sample sample;
        for (int i = 0; i < count; i++) {
            const uint64_t index = ((uint64_t)T_ * 1024 + d) << 24 | (uint64_t)(first + i);
            Rng rng(o_.seed, Purpose::eval_data, index);
            const double depth = task_.has_depth() ? (d + rng.uniform()) / depths : 0;
            task_.draw_test(rng, T_, depth, sample);
            b.add(sample);
        }
        return b;
    }

    Tally count_right(const Batch& b, const typename Scorer<E>::Scores& scores) {
        Tally tally;
        for (size_t i = 0; i + 1 < b.cu_seqlens.size(); i++) {
            int asked = 0, right = 0;
            for (int t = b.cu_seqlens[i]; t < b.cu_seqlens[i + 1]; t++) {
                if (b.targets[t] == ignored) { continue; }
                asked++;
                right += scores.correct[t];
                position_loss.add(t - b.cu_seqlens[i], scores.losses[t]);
            }
            tally.add(task_.one_answer() ? Tally{right == asked, 1} : Tally{right, asked});
        }
        return tally;
    }

    void add_router(const Batch& b) {
        std::vector<AttentionView> layers;
        for (int l = 0; l < scorer_.model().config().num_layers; l++) {
            layers.push_back(view_attention(scorer_.model(), l));
            router.add(l, layers.back(), b.sources);
            if (!scorer_.model().asked_only()) { overlap.add(layers.back()); }
        }
        reach.add(router_reach(layers, b.sources));
    }

    const EvalOptions& o_;
    Comm& comm_;
    const Task& task_;
    const int T_, samples_;
    const Passes<E> passes_;
    Scorer<E> scorer_;
};

// By length. The lists of lengths and samples belong together, in the order in which they were given.
std::map<int, int> samples_of(const EvalOptions& o, const std::vector<int>& lengths) {
    std::map<int, int> samples;
    if (o.samples.size() == 1) {
        for (int T : lengths) { samples[T] = o.samples[0]; }
        return samples;
    }
    if (o.samples.size() != o.seq_len.size()) {
        throw Error("--samples has " + std::to_string(o.samples.size()) + " numbers, but --seq-len has " +
                    std::to_string(o.seq_len.size()) + "; give one number for all lengths, or one for each");
    }
    for (size_t i = 0; i < o.samples.size(); i++) { samples[o.seq_len[i]] = o.samples[i]; }
    return samples;
}

// "10-20%"
std::string depth_range(int d, int depths) {
    return printed("%.4g", 100.0 * d / depths) + printed("-%.4g%%", 100.0 * (d + 1) / depths);
}

// Describes the head that chooses the block of the answer most often.
std::string router_line(const json& heads) {
    const json* best = nullptr;
    for (const json& h : heads) {
        if (!best || h["recall"] > (*best)["recall"]) { best = &h; }
    }
    if (!best) {
        return "          no router recall: no layer is moba, or every answer lies in the query's own block";
    }
    char text[200];
    std::snprintf(text, sizeof text,
                  "          router recall@K %s in layer %d head %d, the best of %zu heads",
                  percent((*best)["recall"]).c_str(), (*best)["layer"].get<int>(), (*best)["head"].get<int>(),
                  heads.size());
    if (!best->contains("snr")) { return text; }
    char more[80];
    std::snprintf(more, sizeof more, "; its SNR %.2f predicts %s", (*best)["snr"].get<double>(),
                  percent((*best)["predicted"]).c_str());
    return std::string(text) + more;
}

std::string overlap_text(const ChoiceOverlap& o) {
    return "a query shares " + percent(o.same()) +
           " of its past blocks with the query before it; the union of " +
           std::to_string(ChoiceOverlap::tile) + " queries has " + printed("%.1f", o.extra()) +
           " times as many pairs as they chose";
}

}  // namespace

template <class E>
json eval_task(Comm& comm, const EvalOptions& o, const ModelFolder& folder, const Config& config) {
    const std::unique_ptr<Task> task = open_task(folder, o.task, o.pairs, o.pair_every);
    const std::vector<int> lengths = lengths_of(o, folder);
    for (int T : lengths) { check_test_length(*task, T, "--seq-len " + std::to_string(T)); }
    if (!task->has_depth()) {
        refuse_given(o.given, {"depths"},
                     "cannot be used: a test of the " + task->settings().name + " task has no depth");
    }
    const int depths = task->has_depth() ? o.depths : 1;
    HeatMap map{
        .corner = "depth", .columns = {}, .rows = {}, .share = std::vector<std::vector<double>>(depths)};
    for (int d = 0; d < depths; d++) { map.rows.push_back(depths == 1 ? "all" : depth_range(d, depths)); }
    json result = head_of_result(o, config);
    result["task"] = task_to_json(task->settings());
    result["seed"] = o.seed;
    result["chance"] = task->chance();
    std::vector<std::string> summary;
    const std::map<int, int> samples = samples_of(o, lengths);
    LiveHeatMap live;
    for (int T : lengths) {
        TaskEvaluation<E> evaluation(o, config, folder, *task, T, samples.at(T), comm);
        if (map.columns.empty()) {
            std::string counts;
            for (const auto& [length, count] : samples) {
                if (counts.empty() || o.samples.size() > 1) {
                    counts += (counts.empty() ? "" : ", ") + std::to_string(count);
                }
            }
            std::printf("%s: task %s, %s samples for each length%s, chance %.2g%% by guessing, layers %s\n",
                        o.model.c_str(), task->settings().name.c_str(), counts.c_str(),
                        task->has_depth() ? " and depth" : "", 100 * task->chance(),
                        layer_summary(config).c_str());
        }
        map.columns.push_back("T=" + std::to_string(T));
        for (auto& row : map.share) { row.push_back(NAN); }
        json length = {{"seq_len", T}, {"sparsity", config.sparsity(T)}, {"depths", json::array()}};
        Tally all;
        for (int d = 0; d < depths; d++) {
            show_progress("T=" + std::to_string(T) + " depth " + std::to_string(d + 1) + "/" +
                          std::to_string(depths));
            const Tally tally = evaluation.run(d, depths);
            map.share[d].back() = (double)tally.right / (double)tally.answers;
            show_progress("");
            live.show(map);
            json cell = tally.to_json();
            cell["depth"] = (d + 0.5) / depths;  // the middle of the range
            length["depths"].push_back(cell);
            all.add(tally);
        }
        show_progress("");
        const PositionLoss& loss = evaluation.position_loss;
        length["all"] = all.to_json();
        length["loss_by_position"] = loss.to_json();
        if (o.router) {
            length["router"] = evaluation.router.to_json();
            length["reach"] = evaluation.reach.share();
            if (!evaluation.overlap.empty()) {
                length["same"] = evaluation.overlap.same();
                length["extra"] = evaluation.overlap.extra();
            }
        }
        result["lengths"].push_back(length);
        const Interval i = wilson(all.right, all.answers);
        char text[200];
        std::snprintf(
            text, sizeof text,
            "T=%-7d accuracy %s, 95%% interval %s to %s (%ld of %ld), loss %.4f at positions %d to %d", T,
            percent((double)all.right / (double)all.answers).c_str(), percent(i.low).c_str(),
            percent(i.high).c_str(), all.right, all.answers, loss.mean(), loss.first(), loss.last());
        summary.push_back(text + sparsity_note(config, T));
        if (o.router) {
            summary.push_back(
                router_line(length["router"]) +
                "; answers within reach, directly or through other tokens: " + percent(length["reach"]));
            if (!evaluation.overlap.empty()) {
                summary.push_back("          " + overlap_text(evaluation.overlap));
            }
        }
    }
    live.clear();
    print_heat_map(map);
    for (const std::string& line : summary) { std::printf("%s\n", line.c_str()); }
    if (*std::min_element(o.samples.begin(), o.samples.end()) < 1000) {
        std::printf("fewer than 1000 samples per cell: only a rough estimate; for a reliable one use "
                    "--samples 1000\n");
    }
    return result;
}

template <class E>
size_t evaluation_bytes(const EvalOptions& o, const Config& config, const Task& task, int T, int samples) {
    const Passes<E> p(o, config, task, T, samples, 1);
    return Model<E>(config, Scorer<E>::sizes(p.batch * T, p.batch, T, p.layers), parse_device(o.device))
        .bytes();
}

INSTANTIATE(eval_task)
INSTANTIATE(evaluation_bytes)

}  // namespace moba
