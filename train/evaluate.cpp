#include "train/evaluate.h"
#include "train/data.h"
#include "train/file.h"
#include "train/heat_map.h"
#include "train/interval.h"
#include "train/numbers.h"
#include "train/precision.h"
#include "train/progress.h"
#include "train/scorer.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <unistd.h>

using nlohmann::json;

namespace {

struct Tally {
    long right = 0, answers = 0;
    void add(const Tally& o) { right += o.right, answers += o.answers; }
    json to_json() const {
        const Interval i = wilson(right, answers);
        return {{"accuracy", (double)right / (double)answers},
                {"low", i.low},
                {"high", i.high},
                {"right", right},
                {"answers", answers}};
    }
};

// Loss by place in the sequence.
struct PositionLoss {
    std::vector<double> sum;
    std::vector<long> count;

    void add(int position, double loss) {
        if ((int)sum.size() <= position) {
            sum.resize(position + 1);
            count.resize(position + 1);
        }
        sum[position] += loss;
        count[position]++;
    }
    int first() const {
        return (int)(std::find_if(count.begin(), count.end(), [](long n) { return n > 0; }) - count.begin());
    }
    int last() const { return (int)count.size() - 1; }
    long tokens() const { return std::accumulate(count.begin(), count.end(), 0L); }
    double mean() const { return std::accumulate(sum.begin(), sum.end(), 0.0) / (double)tokens(); }
    json to_json() const {
        json out = json::array();
        for (size_t p = 0; p < count.size(); p++) {
            if (count[p]) {
                out.push_back({{"position", p}, {"loss", sum[p] / (double)count[p]}, {"count", count[p]}});
            }
        }
        return out;
    }
};

void show_progress(const std::string& text) {
    if (isatty(STDERR_FILENO)) { std::fprintf(stderr, "\r\033[K%s", text.c_str()); }
}

/* One length of a task. An answer is right when all its tokens are: greedy decoding gets them right exactly when each is
   the likeliest behind the right ones before it, so one pass over the whole sample decides. */
template <class E>
class TaskEvaluation {
  public:
    TaskEvaluation(const EvalOptions& o, const Config& config, const ModelFolder& folder, const Task& task,
                   int T)
        : o_(o), task_(task), T_(T), batch_(std::max(1, std::min(o.samples, o.batch_tokens / T))),
          scorer_(folder, config, batch_ * T, batch_, T, parse_device(o.device)) {}

    Tally run(int d, int depths) {
        const double depth = depths == 1 ? 0 : (double)d / (depths - 1);
        Tally tally;
        for (int done = 0; done < o_.samples; done += batch_) {
            tally.add(run_batch(d, depth, done, std::min(batch_, o_.samples - done)));
        }
        return tally;
    }
    PositionLoss position_loss;

  private:
    Tally run_batch(int d, double depth, int first, int count) {
        Batch b;
        Sample sample;
        for (int i = 0; i < count; i++) {
            const uint64_t index = ((uint64_t)T_ * 1024 + d) << 24 | (uint64_t)(first + i);
            Rng rng(o_.seed, Purpose::eval_data, index);
            task_.draw_test(rng, T_, depth, sample);
            b.add(sample);
        }
        scorer_.run(b);
        Tally tally;
        for (int i = 0; i < count; i++) {
            int asked = 0, right = 0;
            for (int t = b.cu_seqlens[i]; t < b.cu_seqlens[i + 1]; t++) {
                if (b.targets[t] == ignored) { continue; }
                asked++;
                right += scorer_.correct[t];
                position_loss.add(t - b.cu_seqlens[i], scorer_.losses[t]);
            }
            tally.add(task_.one_answer() ? Tally{right == asked, 1} : Tally{right, asked});
        }
        return tally;
    }

    const EvalOptions& o_;
    const Task& task_;
    const int T_, batch_;
    Scorer<E> scorer_;
};

}  // namespace

static std::string layer_names(const Config& config) {
    std::string out;
    for (const LayerKind& k : config.layers) { out += " " + layer_name(k); }
    return out;
}

// What MoBA leaves out at this length, for the end of a line; "" without moba layers.
static std::string sparsity_note(const Config& config, int T) {
    const bool moba = std::any_of(config.layers.begin(), config.layers.end(),
                                  [](const LayerKind& k) { return k.attention == AttentionKind::moba; });
    if (!moba) { return ""; }
    if (config.block_size * config.top_k >= T) {
        return "; top-k * block-size >= T: MoBA is full attention here";
    }
    return "; moba layers leave out " + percent(config.sparsity(T)) + " of the pairs";
}

static std::vector<int> lengths_of(const EvalOptions& o, const Config& config) {
    std::vector<int> lengths = o.seq_len;
    if (lengths.empty()) { lengths.push_back(config.max_position_embeddings); }
    std::sort(lengths.begin(), lengths.end());
    return lengths;
}

static json head_of_result(const EvalOptions& o, const Config& config) {
    json result = {{"model", o.model},
                   {"precision", o.precision},
                   {"block_size", config.block_size},
                   {"top_k", config.top_k},
                   {"lengths", json::array()}};
    for (const LayerKind& k : config.layers) { result["layers"].push_back(layer_name(k)); }
    return result;
}

template <class E>
static json eval_task(const EvalOptions& o, const ModelFolder& folder, const Config& config) {
    TaskSettings settings;
    if (folder.task.empty()) {
        settings.name = o.task;
    } else {
        settings = task_from_json(json::parse(folder.task), folder.path + ": ");
    }
    if (!o.task.empty() && o.task != settings.name) {
        throw Error("--task " + o.task + ": the model was trained on " + settings.name);
    }
    const std::unique_ptr<Task> task = make_task(settings, folder.path + ": ");
    if (task->vocab_size() > config.vocab_size) {
        throw Error(folder.path + ": vocabulary of " + std::to_string(config.vocab_size) + " tokens, the " +
                    settings.name + " task has " + std::to_string(task->vocab_size()));
    }
    const std::vector<int> lengths = lengths_of(o, config);
    const int shortest = task->shortest(task->settings().pairs);
    if (lengths[0] < shortest) {
        throw Error("--seq-len " + std::to_string(lengths[0]) + ": a test needs at least " +
                    std::to_string(shortest) + " tokens");
    }
    const int depths = task->has_depth() ? o.depths : 1;
    HeatMap map{"depth", {}, {}, std::vector<std::vector<double>>(depths)};
    for (int d = 0; d < depths; d++) {
        map.rows.push_back(!task->has_depth() ? "all" : percent(depths == 1 ? 0 : (double)d / (depths - 1)));
    }
    json result = head_of_result(o, config);
    result["task"] = task_to_json(task->settings());
    result["seed"] = o.seed;
    result["chance"] = task->chance();
    std::vector<std::string> summary;
    for (int T : lengths) {
        TaskEvaluation<E> evaluation(o, config, folder, *task, T);
        if (map.columns.empty()) {
            std::printf("%s: %s, %d samples for each length%s, chance %.2g%%, layers%s\n", o.model.c_str(),
                        settings.name.c_str(), o.samples, task->has_depth() ? " and depth" : "",
                        100 * task->chance(), layer_names(config).c_str());
        }
        map.columns.push_back("T=" + std::to_string(T));
        json length = {{"seq_len", T}, {"sparsity", config.sparsity(T)}, {"depths", json::array()}};
        Tally all;
        for (int d = 0; d < depths; d++) {
            show_progress("T=" + std::to_string(T) + " depth " + std::to_string(d + 1) + "/" +
                          std::to_string(depths));
            const Tally tally = evaluation.run(d, depths);
            map.share[d].push_back((double)tally.right / (double)tally.answers);
            json cell = tally.to_json();
            cell["depth"] = depths == 1 ? 0.0 : (double)d / (depths - 1);
            length["depths"].push_back(cell);
            all.add(tally);
        }
        show_progress("");
        const PositionLoss& loss = evaluation.position_loss;
        length["all"] = all.to_json();
        length["loss_by_position"] = loss.to_json();
        result["lengths"].push_back(length);
        const Interval i = wilson(all.right, all.answers);
        char text[200];
        std::snprintf(
            text, sizeof text,
            "T=%-7d accuracy %s, 95%% interval %s to %s (%ld of %ld), loss %.4f at positions %d to %d", T,
            percent((double)all.right / (double)all.answers).c_str(), percent(i.low).c_str(),
            percent(i.high).c_str(), all.right, all.answers, loss.mean(), loss.first(), loss.last());
        summary.push_back(text + sparsity_note(config, T));
    }
    print_heat_map(map);
    for (const std::string& line : summary) { std::printf("%s\n", line.c_str()); }
    if (o.samples < 1000) { std::printf("fewer than 1000 samples a cell: a look, not a figure to claim\n"); }
    return result;
}

// The stretch of text to score: all of --data, or what the model was validated with.
struct EvalText {
    std::unique_ptr<TokenFiles> files;
    size_t begin = 0;
    std::string name;
};

static EvalText open_text(const EvalOptions& o, const ModelFolder& folder) {
    EvalText out;
    std::vector<std::string> paths = o.data;
    double share = 1;
    if (paths.empty()) {
        try {
            const json data = json::parse(folder.data);
            paths = data.at("val_files").get<std::vector<std::string>>();
            if (paths.empty()) {
                paths = data.at("files").get<std::vector<std::string>>();
                share = data.at("val_share").get<double>();
            }
        } catch (const json::exception&) {
            throw Error(folder.path + "/config.json: 'moba.data' is not what a run writes; use --data");
        }
    }
    out.files = std::make_unique<TokenFiles>(paths);
    const size_t n = out.files->size();
    out.begin = share >= 1 ? 0 : n - (size_t)(std::max(0.0, share) * (double)n);
    out.name = paths[0] + (paths.size() > 1 ? " and more" : "") + (share < 1 ? ", its end" : "");
    return out;
}

template <class E>
static json eval_text(const EvalOptions& o, const ModelFolder& folder, const Config& config) {
    const EvalText text = open_text(o, folder);
    const Vocabulary& vocabulary = text.files->vocabulary();
    if (vocabulary.size > config.vocab_size) {
        throw Error("--data: vocabulary of " + std::to_string(vocabulary.size) + " tokens, the model has " +
                    std::to_string(config.vocab_size));
    }
    const Windows windows(*text.files, text.begin, text.files->size());
    if (windows.tokens() < 2) { throw Error(text.name + ": fewer than 2 tokens"); }
    std::printf("%s: %s, %zu tokens, layers%s\n", o.model.c_str(), text.name.c_str(), windows.tokens(),
                layer_names(config).c_str());
    json result = head_of_result(o, config);
    for (int T : lengths_of(o, config)) {
        const int batch = std::max(1, o.batch_tokens / T);
        Scorer<E> scorer(folder, config, batch * T, batch * T, T, parse_device(o.device));
        const size_t all = windows.count(T), count = o.windows ? std::min<size_t>(o.windows, all) : all;
        PositionLoss loss;
        long right = 0;
        for (size_t done = 0; done < count;) {
            show_progress("T=" + std::to_string(T) + " window " + std::to_string(done) + "/" +
                          std::to_string(count));
            Batch b;
            std::vector<int> starts;
            for (int i = 0; i < batch && done < count; i++) {
                starts.push_back((int)b.tokens.size());
                windows.add(done++ * all / count, T, b);
            }
            starts.push_back((int)b.tokens.size());
            scorer.run(b);
            for (size_t i = 0; i + 1 < starts.size(); i++) {
                for (int t = starts[i]; t < starts[i + 1]; t++) {
                    loss.add(t - starts[i], scorer.losses[t]);
                    right += scorer.correct[t];
                }
            }
        }
        show_progress("");
        std::string bits;
        if (vocabulary.tokenizer == "bytes") {
            char s[40];
            std::snprintf(s, sizeof s, ", %.4f bits per byte", loss.mean() / std::log(2.0));
            bits = s;
        }
        std::printf(
            "T=%-7d loss %.4f nats, perplexity %.3f%s, next token right %s (%zu windows, %ld tokens)%s\n", T,
            loss.mean(), std::exp(loss.mean()), bits.c_str(),
            percent((double)right / (double)loss.tokens()).c_str(), count, loss.tokens(),
            sparsity_note(config, T).c_str());
        result["lengths"].push_back({{"seq_len", T},
                                     {"sparsity", config.sparsity(T)},
                                     {"windows", count},
                                     {"tokens", loss.tokens()},
                                     {"loss", loss.mean()},
                                     {"accuracy", (double)right / (double)loss.tokens()},
                                     {"loss_by_position", loss.to_json()}});
    }
    return result;
}

int run_eval(const EvalOptions& o) {
    const ModelFolder folder = open_model(o.model);
    Config config = folder.config;
    swap_attention(config, o.attention, o.block_size, o.top_k);
    const bool text = !o.data.empty() || (o.task.empty() && folder.task.empty() && !folder.data.empty());
    if (text && !o.task.empty()) { throw Error("--task and --data cannot go together"); }
    if (!text && folder.task.empty() && o.task.empty()) {
        throw Error(folder.path + ": nothing tells what to evaluate it on; name --task or --data");
    }
    if (!o.json.empty()) {
        write_file(o.json, "");
    }  // a path that cannot be written fails now, not after the work
    const double begin = now_ms();
    const json result = with_precision(o.precision, [&](auto e) {
        using E = decltype(e);
        return text ? eval_text<E>(o, folder, config) : eval_task<E>(o, folder, config);
    });
    std::printf("%s\n", readable_seconds((now_ms() - begin) / 1000).c_str());
    if (!o.json.empty()) { write_file(o.json, result.dump(2) + "\n"); }
    return 0;
}
