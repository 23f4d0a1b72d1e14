#include "train/evaluate.h"
#include "train/batch.h"
#include "train/checkpoint.h"
#include "train/file.h"
#include "train/progress.h"
#include "train/report.h"
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unistd.h>

using nlohmann::json;

Interval wilson(int right, int n) {
    const double z = 1.959964, p = (double)right / n;
    const double middle = p + z * z / (2 * n), half = z * std::sqrt(p * (1 - p) / n + z * z / (4.0 * n * n));
    return {(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)};
}

namespace {

struct Tally {
    int right = 0, samples = 0;  // samples whose answer tokens are all right
    void add(const Tally& o) { right += o.right, samples += o.samples; }
    json to_json() const {
        const Interval i = wilson(right, samples);
        return {{"accuracy", (double)right / samples},
                {"low", i.low},
                {"high", i.high},
                {"right", right},
                {"samples", samples}};
    }
};

struct PositionLoss {
    double sum = 0;
    int count = 0;
};

class Evaluation {
  public:
    // At length T.
    Evaluation(const EvalOptions& o, const Config& config, const ModelFolder& folder, const Task& task, int T)
        : o_(o), task_(task), T_(T), batch_(std::max(1, std::min(o.samples, o.batch_tokens / T))),
          model_(config, {batch_ * T, batch_, T, false, 0, 0}, parse_device(o.device)) {
        model_.allocate();
        load_weights(folder, model_);
    }

    std::vector<Tally> run_depths() {
        std::vector<Tally> out;
        for (int d = 0; d < o_.depths; d++) {
            const double depth = o_.depths == 1 ? 0 : (double)d / (o_.depths - 1);
            Tally tally;
            while (tally.samples < o_.samples) {
                tally.add(run_batch(d, depth, tally.samples, std::min(batch_, o_.samples - tally.samples)));
            }
            out.push_back(tally);
            if (isatty(STDERR_FILENO)) {
                std::fprintf(stderr, "\r\033[KT=%d depth %d/%d", T_, d + 1, o_.depths);
            }
        }
        if (isatty(STDERR_FILENO)) { std::fprintf(stderr, "\r\033[K"); }
        return out;
    }
    const std::map<int, PositionLoss>& position_loss() const { return position_loss_; }

  private:
    // Greedy decoding gets all answer tokens right exactly when each is the likeliest behind the right ones before it,
    // so one pass over the whole sample decides.
    Tally run_batch(int d, double depth, int first, int count) {
        Batch b;
        Sample sample;
        for (int i = 0; i < count; i++) {
            const uint64_t index = ((uint64_t)T_ * 1024 + d) << 24 | (uint64_t)(first + i);
            Rng rng(o_.seed, Purpose::eval_data, index);
            task_.draw_test(rng, T_, depth, sample);
            b.add(sample);
        }
        model_.set_batch(b.tokens.data(), b.targets.data(), b.cu_seqlens, {});
        model_.forward();
        model_.loss(false);
        std::vector<float> losses;
        std::vector<int> correct;
        model_.read_losses(losses, correct);
        Tally tally;
        for (int i = 0; i < count; i++) {
            bool all = true;
            for (int t = b.cu_seqlens[i]; t < b.cu_seqlens[i + 1]; t++) {
                if (b.targets[t] == ignored) { continue; }
                all &= correct[t] == 1;
                PositionLoss& p = position_loss_[t - b.cu_seqlens[i]];
                p.sum += losses[t];
                p.count++;
            }
            tally.right += all;
            tally.samples++;
        }
        return tally;
    }

    const EvalOptions& o_;
    const Task& task_;
    const int T_, batch_;
    Model<float> model_;
    std::map<int, PositionLoss> position_loss_;
};

}  // namespace

static std::string percent(double share) {
    char text[16];
    std::snprintf(text, sizeof text, "%.1f%%", 100 * share);
    return text;
}

static void print_header(const EvalOptions& o, const Config& config, const Task& task) {
    std::printf("%s: %s, %d samples for each length and depth, chance %s, layers", o.model.c_str(),
                task.name().c_str(), o.samples, percent(task.chance()).c_str());
    for (const LayerKind& k : config.layers) { std::printf(" %s", layer_name(k).c_str()); }
    std::printf("\n");
}

int run_eval(const EvalOptions& o) {
    const ModelFolder folder = open_model(o.model);
    Config config = folder.config;
    swap_attention(config, o.attention, o.block_size, o.top_k);
    if (folder.task.empty() && o.task.empty()) {
        throw Error(folder.path + ": was not trained on a task; name one with --task");
    }
    const json settings = folder.task.empty() ? json{{"name", o.task}} : json::parse(folder.task);
    const std::unique_ptr<Task> task = make_task(settings, folder.path + ": ");
    if (!o.task.empty() && o.task != task->name()) {
        throw Error("--task " + o.task + ": the model was trained on " + task->name());
    }
    if (task->vocab_size() != config.vocab_size) {
        throw Error(folder.path + ": vocabulary of " + std::to_string(config.vocab_size) + " tokens, the " +
                    task->name() + " task has " + std::to_string(task->vocab_size()));
    }
    std::vector<int> lengths = o.seq_len;
    if (lengths.empty()) { lengths.push_back(config.max_position_embeddings); }
    std::sort(lengths.begin(), lengths.end());
    const int shortest = task->shortest(settings.value("pairs", 4));
    if (lengths[0] < shortest) {
        throw Error("--seq-len " + std::to_string(lengths[0]) + ": a test needs at least " +
                    std::to_string(shortest) + " tokens");
    }

    if (!o.json.empty()) { write_file(o.json, ""); }  // a path that cannot be written fails now, not after the work
    const double begin = now_ms();
    HeatMap map{"depth", {}, {}, std::vector<std::vector<double>>(o.depths)};
    for (int d = 0; d < o.depths; d++) {
        map.rows.push_back(percent(o.depths == 1 ? 0 : (double)d / (o.depths - 1)));
    }
    json result = {{"model", o.model},
                   {"task", settings},
                   {"seed", o.seed},
                   {"chance", task->chance()},
                   {"lengths", json::array()}};
    for (const LayerKind& k : config.layers) { result["layers"].push_back(layer_name(k)); }
    result["block_size"] = config.block_size;
    result["top_k"] = config.top_k;
    std::vector<std::string> summary;
    for (int T : lengths) {
        Evaluation evaluation(o, config, folder, *task, T);
        if (map.columns.empty()) { print_header(o, config, *task); }
        const std::vector<Tally> depths = evaluation.run_depths();
        map.columns.push_back("T=" + std::to_string(T));
        json length = {{"seq_len", T}, {"depths", json::array()}, {"loss_by_position", json::array()}};
        Tally all;
        for (int d = 0; d < o.depths; d++) {
            map.share[d].push_back((double)depths[d].right / depths[d].samples);
            json cell = depths[d].to_json();
            cell["depth"] = o.depths == 1 ? 0.0 : (double)d / (o.depths - 1);
            length["depths"].push_back(cell);
            all.add(depths[d]);
        }
        length["all"] = all.to_json();
        length["sparsity"] = config.sparsity(T);
        double loss = 0;
        int count = 0;
        for (const auto& [position, p] : evaluation.position_loss()) {
            length["loss_by_position"].push_back(
                {{"position", position}, {"loss", p.sum / p.count}, {"count", p.count}});
            loss += p.sum;
            count += p.count;
        }
        const Interval i = wilson(all.right, all.samples);
        char text[200];
        std::snprintf(
            text, sizeof text,
            "T=%-7d accuracy %s, 95%% interval %s to %s (%d of %d), loss %.4f at positions %d to %d", T,
            percent((double)all.right / all.samples).c_str(), percent(i.low).c_str(), percent(i.high).c_str(),
            all.right, all.samples, loss / count, evaluation.position_loss().begin()->first,
            evaluation.position_loss().rbegin()->first);
        summary.push_back(text);
        const bool moba = std::any_of(config.layers.begin(), config.layers.end(),
                                      [](const LayerKind& k) { return k.attention == AttentionKind::moba; });
        if (moba && config.block_size * config.top_k >= T) {
            summary.back() += "; top-k * block-size >= T: MoBA is full attention here";
        } else if (moba) {
            summary.back() += "; moba layers leave out " + percent(config.sparsity(T)) + " of the pairs";
        }
        result["lengths"].push_back(length);
    }
    print_heat_map(map);
    for (const std::string& line : summary) { std::printf("%s\n", line.c_str()); }
    if (o.samples < 1000) { std::printf("fewer than 1000 samples a cell: a look, not a figure to claim\n"); }
    std::printf("%s\n", readable_seconds((now_ms() - begin) / 1000).c_str());
    if (!o.json.empty()) { write_file(o.json, result.dump(2) + "\n"); }
    return 0;
}
