#include "train/bench/bench.h"
#include "moba/core/clock.h"
#include "moba/core/matmul.h"
#include "moba/model.h"
#include "train/bench/bench_attention.h"
#include "train/bench/bench_ops.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/flops.h"
#include "train/core/version.h"
#include "train/options/options.h"
#include <algorithm>
#include <map>

namespace moba {

using nlohmann::json;

static json header(const BenchOptions& o) {
    return {{"bench", o.what},
            {"program", program_version()},
            {"commit", program_commit()},
            {"threads", max_threads()},
            {"blas", blas_name()},
            {"repeats", o.repeats},
            {"precision", o.precision},
            {"device", find_device(parse_device(o.device))->name()}};
}

// -----------------------------------------------------------------------------------------------------------

namespace {

Config bench_config(const BenchOptions& o, const std::string& attention) {
    Config c;
    c.vocab_size = o.vocab;
    c.hidden_size = o.hidden;
    c.num_layers = o.layers;
    c.num_heads = o.heads;
    c.num_kv_heads = kv_heads(o);
    if (o.hidden % o.heads) {
        throw Error("--hidden-size " + std::to_string(o.hidden) + ": must be a multiple of --num-heads " +
                    std::to_string(o.heads));
    }
    c.head_dim = o.hidden / o.heads;
    c.intermediate_size = intermediate_size(o);
    c.max_position_embeddings = o.seq_len;
    c.embedding_std = 0.02;
    c.tie_word_embeddings = true;  // as in the small models that the step is compared with
    c.block_size = o.block_size;
    c.top_k = o.top_k;
    c.layers = parse_layers(attention, c.num_layers);
    return c;
}

struct StepTimes {
    double ms, flop;
    DeviceCounts counts;     // of one step
    Profile profile;         // sums over `repeats` further steps
    double profiled_ms = 0;  // time of all these steps
};

template <class E>
StepTimes time_step(const BenchOptions& o, const std::string& attention) {
    const Config c = bench_config(o, attention);
    const int M = o.batch * o.seq_len;
    Model<E> model(c,
                   {.max_tokens = M,
                    .max_seqs = o.batch,
                    .max_position = o.seq_len,
                    .training = true,
                    .attention_kernel_version = o.attention_impl == "naive" ? 1 : 0},
                   parse_device(o.device));
    model.allocate();
    model.init_weights(1);
    std::vector<int> tokens, cu{0};
    Rng rng(1, Purpose::synthetic, 0);
    for (int i = 0; i < M; i++) { tokens.push_back(rng.below(o.vocab)); }
    for (int b = 1; b <= o.batch; b++) { cu.push_back(b * o.seq_len); }
    std::vector<int> targets(tokens.begin() + 1, tokens.end());
    targets.push_back(tokens[0]);
    StepState step{1, 0, 0, 1.0 / M, 1e-4};
    const auto run = [&] {
        step.step++;
        model.zero_gradients();
        model.set_batch(tokens.data(), targets.data(), cu, step);
        model.training_passes();
        model.update(step);
        model.step_result();  // waits for the device
    };
    const auto counts = find_device(model.ctx().device)->counts;
    model.set_graph(!o.no_graph);
    run();  // the passes are recorded from the second step on
    StepTimes t;
    t.ms = median_ms(o.repeats, run);
    t.flop = step_flop(c, model.num_parameters(), cu, M);
    model.set_graph(false);  // to count single launches
    const DeviceCounts before = counts();
    run();
    const DeviceCounts after = counts();
    t.counts = {after.launches - before.launches, after.uploads - before.uploads, after.stops - before.stops};
    if (o.profile) {
        model.set_profile(&t.profile);
        const double begin = now_ms();
        for (int i = 0; i < o.repeats; i++) { run(); }
        t.profiled_ms = now_ms() - begin;
    }
    return t;
}

json print_profile(const char* attention, const StepTimes& t, int steps) {
    struct Row {
        const char* name;
        double ms;
        int calls;
    };
    std::vector<Row> rows;
    double rest = t.profiled_ms;
    for (int i = 0; i < (int)Op::count; i++) {
        const Profile::Row& r = t.profile.rows[i];
        if (r.calls) { rows.push_back({op_name((Op)i), r.ms, r.calls}); }
        rest -= r.ms;
    }
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.ms > b.ms; });
    rows.push_back({"between operations", rest, 0});
    std::printf("\na step with %s, operation by operation: %.2f ms, mean of %d steps\n", attention,
                t.profiled_ms / steps, steps);
    if (t.counts.launches) {
        std::printf("without a recorded graph a step has %zu launches and %zu uploads, and the host waits "
                    "%zu times\n",
                    t.counts.launches, t.counts.uploads, t.counts.stops);
    }
    std::printf("%-26s %10s %8s %8s\n", "", "ms", "calls", "share");
    json out = json::array();
    for (const Row& r : rows) {
        const double ms = r.ms / steps, share = r.ms / t.profiled_ms;
        std::printf("%-26s %10.3f %8d %7.1f%%\n", r.name, ms, r.calls / steps, 100 * share);
        out.push_back({{"name", r.name}, {"ms", ms}, {"calls", r.calls / steps}, {"share", share}});
    }
    return out;
}

template <class E>
void bench_step(const BenchOptions& o, json& result) {
    std::printf("training step, %s: L=%d C=%d H=%d V=%d, B=%d T=%d, MoBA S=%d K=%d, median of %d repeats\n",
                o.precision.c_str(), o.layers, o.hidden, o.heads, o.vocab, o.batch, o.seq_len, o.block_size,
                o.top_k, o.repeats);
    const double peak = peak_flops<E>(parse_device(o.device));
    std::printf("%s: peak %.0f GFLOP/s\n", find_device(parse_device(o.device))->name(), peak / 1e9);
    std::printf("%-12s %10s %12s %10s %8s\n", "", "ms", "tokens/s", "GFLOP/s", "MFU");
    std::map<std::string, StepTimes> all;
    for (const char* kind : {"moba", "full"}) {
        if (!times(o, kind)) { continue; }
        const StepTimes& t = all[kind] = time_step<E>(o, kind);
        const double tokens = o.batch * (double)o.seq_len / t.ms * 1000, gflops = t.flop / t.ms / 1e6,
                     mfu = gflops * 1e9 / peak;
        std::printf("%-12s %10.1f %12.0f %10.0f %7.1f%%\n", kind, t.ms, tokens, gflops, 100 * mfu);
        result["rows"].push_back({{"name", kind},
                                  {"ms", t.ms},
                                  {"tokens_per_s", tokens},
                                  {"gflops", gflops},
                                  {"mfu", mfu},
                                  {"launches", t.counts.launches},
                                  {"uploads", t.counts.uploads},
                                  {"stops", t.counts.stops}});
    }
    if (all.size() == 2) {
        const double ratio = all["full"].ms / all["moba"].ms;
        std::printf("a step with moba is %.2fx as fast as with full attention\n", ratio);
        result["ratio"] = ratio;
    }
    if (!o.profile) { return; }
    for (json& row : result["rows"]) {
        const std::string kind = row["name"];
        row["profile"] = print_profile(kind.c_str(), all[kind], o.repeats);
    }
}

// One model. A prompt of T tokens fills its cache; then it decodes further tokens with MoBA, and with full
// attention.
template <class E>
void bench_decode(const BenchOptions& o, json& result) {
    const Config c = bench_config(o, "moba");
    std::printf("decoding, %s: L=%d C=%d H=%d G=%d V=%d, T=%d tokens in the cache, MoBA S=%d K=%d, median of "
                "%d repeats\n",
                o.precision.c_str(), o.layers, o.hidden, o.heads, c.num_kv_heads, o.vocab, o.seq_len,
                o.block_size, o.top_k, o.repeats);
    const int longest = o.seq_len + 2 * (o.repeats + 1);
    Model<E> model(c,
                   {.max_tokens = o.seq_len, .max_seqs = 1, .max_position = longest, .cache_tokens = longest},
                   parse_device(o.device));
    model.allocate();
    model.init_weights(1);
    model.set_graph(!o.no_graph);
    std::vector<int> tokens;
    Rng rng(1, Purpose::synthetic, 0);
    for (int i = 0; i < o.seq_len; i++) { tokens.push_back(rng.below(o.vocab)); }
    model.set_batch(tokens.data(), nullptr, {0, o.seq_len}, {});
    model.forward();
    std::printf("%s:\n%-12s %10s %12s\n", find_device(parse_device(o.device))->name(), "", "ms", "tokens/s");
    std::map<std::string, double> all;
    std::vector<float> logits;
    for (const AttentionKind kind : {AttentionKind::moba, AttentionKind::full}) {
        const char* name = kind == AttentionKind::moba ? "moba" : "full";
        if (!times(o, name)) { continue; }
        model.set_decode_attention(kind);
        const double ms = all[name] = median_ms(o.repeats, [&] {
            model.decode(tokens[0]);
            model.read_logits(0, 1, logits);
        });
        std::printf("%-12s %10.3f %12.0f\n", name, ms, 1000 / ms);
        result["rows"].push_back({{"name", name}, {"ms", ms}, {"tokens_per_s", 1000 / ms}});
    }
    if (all.size() < 2) { return; }
    const double ratio = all["full"] / all["moba"];
    std::printf("decoding with moba is %.1fx as fast as with full attention\n", ratio);
    result["ratio"] = ratio;
}

void check(const BenchOptions& o) {
    static const struct {
        std::vector<const char*> options;
        std::vector<std::string> what;  // where they do something
    } limited[] = {{{"op"}, {"op"}},
                   {{"profile"}, {"step"}},
                   {{"no-graph", "num-layers"}, {"step", "decode"}},
                   {{"kernel-version", "window", "head-dim"}, {"op", "attention"}},
                   {{"attention-impl"}, {"attention", "step"}},
                   {{"attention"}, {"attention", "step", "decode"}},
                   {{"batch-size"}, {"attention", "step", "op"}},
                   {{"hidden-size", "intermediate-size", "vocab-size"}, {"step", "decode", "op"}}};
    for (const auto& l : limited) {
        if (std::find(l.what.begin(), l.what.end(), o.what) != l.what.end()) { continue; }
        std::string where;
        for (const std::string& w : l.what) { where += (where.empty() ? "bench " : " and bench ") + w; }
        refuse_given(o.given, l.options, "is only for " + where);
    }
    if (o.what == "attention" && !o.attention.empty() && (o.window || o.attention_impl == "naive")) {
        throw Error("--attention " + o.attention + " times this kind alone; without it, " +
                    (o.window ? "--window" : "--attention-impl naive") + " adds another one");
    }
    check_heads(o);
    if (o.what == "op" && o.head_dim % 2) {
        throw Error("--head-dim " + std::to_string(o.head_dim) +
                    ": must be even, because bench op times RoPE, too");
    }
    if ((int64_t)o.batch * o.seq_len > 1 << 30) {
        throw Error("--batch-size x --seq-len = " + std::to_string((int64_t)o.batch * o.seq_len) +
                    " tokens: must be at most 2^30");
    }
}

}  // namespace

int run_bench(const BenchOptions& o) {
    check(o);
    check_writable(o.json);
    json result = header(o);
    with_precision(o.precision, [&](auto e) {
        using E = decltype(e);
        if (o.what == "attention") {
            bench_attention<E>(o, result);
        } else if (o.what == "step") {
            bench_step<E>(o, result);
        } else if (o.what == "decode") {
            bench_decode<E>(o, result);
        } else {
            bench_ops<E>(o, result);
        }
    });
    if (!o.json.empty()) { write_file(o.json, result.dump(2) + "\n"); }
    return 0;
}

}  // namespace moba
