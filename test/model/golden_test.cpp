/* Golden files: inputs and results that were not computed by this project (test/golden/README.md).

   Runs every attn_* and model_* file of the folder MOBA_GOLDEN_DIR (default test/golden), and prints the name
   and the errors of each file. Attention: 1e-5 of the largest value of each result. Model: ten losses within
   1e-4 relative. */
#include "moba/core/parallel.h"
#include "moba/model.h"
#include "test/support/check.h"
#include "train/files/safetensors.h"
#include <algorithm>
#include <filesystem>

namespace moba {

namespace {

std::string golden_folder() {
    const char* named = std::getenv("MOBA_GOLDEN_DIR");
    return named ? named : MOBA_SOURCE_DIR "/test/golden";
}

std::vector<std::string> golden_files(const std::string& prefix) {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(golden_folder())) {
        const std::string name = entry.path().filename().string();
        if (name.rfind(prefix, 0) == 0 && entry.path().extension() == ".safetensors") {
            out.push_back(entry.path());
        }
    }
    std::sort(out.begin(), out.end());
    return out;
}

int setting(const Safetensors& f, const char* name) { return std::stoi(f.setting(name)); }
double real(const Safetensors& f, const char* name) { return std::stod(f.setting(name)); }

// Prints and checks one error against the file.
void report(const std::string& path, const std::string& what, double error, double tolerance) {
    std::printf("  %-38s %-34s error %.2e  allowed %.0e\n", std::filesystem::path(path).filename().c_str(),
                what.c_str(), error, tolerance);
    EXPECT_WITHIN(error, tolerance);
}

// The CPU, and the GPU if there is one, real or simulated
std::vector<Device> devices() {
    std::vector<Device> d{Device::cpu};
    if (gpu_problem().empty()) { d.push_back(Device::gpu); }
    return d;
}
std::string name_of(Device d) { return d == Device::cpu ? " cpu" : " gpu"; }

// Tensors on one device.
class Tensors {
  public:
    explicit Tensors(Device d) : device_(find_device(d)) { ctx.device = d; }
    Tensors(const Tensors&) = delete;
    ~Tensors() {
        for (const auto& [p, bytes] : held_) { device_->release(p, bytes); }
    }
    template <class X>
    X* put(const std::vector<X>& values) {
        X* p = make<X>(values.size());
        device_->to_device(ctx, p, values.data(), values.size() * sizeof(X));
        return p;
    }
    template <class X>
    X* make(size_t n) {
        held_.push_back({device_->allocate(n * sizeof(X)), n * sizeof(X)});
        return (X*)held_.back().first;
    }
    template <class X>
    std::vector<X> get(const X* p, size_t n) {
        std::vector<X> values(n);
        device_->to_host(ctx, values.data(), p, n * sizeof(X));
        return values;
    }
    Ctx ctx;

  private:
    const DeviceOps* device_;
    std::vector<std::pair<char*, size_t>> held_;
};

/* Compares the choice of every query with that of the file. If they differ, no chosen past block may score
   below the (K-1)-th best past block by more than the rounding error of a score. */
void check_selection(const Safetensors& f, const std::vector<int>& chosen, const std::vector<float>& q,
                     const std::vector<float>& k, const Sequences& seqs, GateShape s) {
    const std::vector<char> selected = f.bytes("selected");  // (M, H, blocks), of the query's own sequence
    const int M = seqs.num_tokens, width = (int)f.at("selected").shape[2], group = s.H / s.G;
    const BlockTable& blocks = seqs.level[0];
    size_t differing = 0, wrong = 0;
    for (int t = 0; t < M; t++) {
        for (int h = 0; h < s.H; h++) {
            const int own = blocks.own[t], first = blocks.first[own];
            const int* mine = chosen.data() + ((size_t)h * M + t) * s.K;
            std::vector<char> marked(width);
            for (int i = 0; i < s.K && mine[i] >= 0; i++) { marked[mine[i] - first] = 1; }
            if (std::memcmp(marked.data(), selected.data() + ((size_t)t * s.H + h) * width, width) == 0) {
                continue;
            }
            differing++;
            std::vector<double> score, error;
            for (int n = first; n < own; n++) {
                double sum = 0, size = 0;
                for (int d = 0; d < s.D; d++) {
                    double mean = 0;
                    for (int j = blocks.start[n]; j < blocks.start[n + 1]; j++) {
                        mean += k[((size_t)j * s.G + h / group) * s.D + d];
                    }
                    mean /= blocks.start[n + 1] - blocks.start[n];
                    sum += q[((size_t)t * s.H + h) * s.D + d] * mean;
                    size += std::fabs(q[((size_t)t * s.H + h) * s.D + d] * mean);
                }
                score.push_back(sum);
                error.push_back(2 * s.D * std::ldexp(1.0, -24) * size);
            }
            std::vector<double> best = score;
            std::sort(best.rbegin(), best.rend());
            const int num_past = std::min(s.K - 1, own - first);
            int past = 0;
            for (int n = 0; n < own - first; n++) {
                if (!marked[n]) { continue; }
                past++;
                if (!(score[n] >= best[num_past - 1] - error[n])) { wrong++; }
            }
            if (past != num_past || !marked[own - first]) { wrong++; }
        }
    }
    std::printf("  %-38s %-34s %zu of %d differ within a score's error\n",
                std::filesystem::path(f.path()).filename().c_str(), "selection", differing, M * s.H);
    EXPECT_EQ(wrong, 0u) << f.path();
}

void run_attention(const std::string& path, Device device, int version) {
    const Safetensors f(path);
    const int H = setting(f, "num_heads"), G = setting(f, "num_kv_heads"), D = setting(f, "head_dim");
    const int S = setting(f, "block_size"), K = setting(f, "top_k");
    const std::vector<float> q = f.floats("q"), k = f.floats("k"), v = f.floats("v");
    const std::vector<int> cu = f.ints("cu_seqlens");
    const int M = cu.back(), B = (int)cu.size() - 1;
    std::vector<int> table;
    const Sequences seqs = build_sequences(table, cu, {S});
    const GateShape gate{H, G, D, K, Gate::topk};
    const AttentionShape shape{H, G, D, AttentionKind::moba, 0, gate};
    const Ops<float>& op = *find_ops<float>(device);
    const WorkspaceBytes<float>& needs = *find_workspaces<float>(device);
    Tensors on(device);
    on.ctx.workspace_bytes = std::max({needs.gate(M, B, {S}, gate), needs.gate_lists(M, B, {S}, gate),
                                       needs.attention(M, B, {S}, shape, Direction::backward),
                                       naive_attention_workspace_bytes<float>(M, shape)});
    on.ctx.workspace = on.make<char>(on.ctx.workspace_bytes);
    on.ctx.kernel_version = version;
    const size_t slots = routing_slots(M, {S}, gate);
    const Sequences there = rebase(seqs, table.data(), on.put(table));
    Routing routing{on.make<int>(slots), on.make<int>(routing_starts(M, B, {S}, gate)), on.make<int>(slots)};
    const float *dq_in = on.put(q), *dk_in = on.put(k), *dv_in = on.put(v), *dout = on.put(f.floats("dout"));
    op.gate_forward(on.ctx, routing, dq_in, dk_in, there, gate);
    check_selection(f, on.get(routing.chosen, slots), q, k, seqs, gate);

    // from here on the blocks selected in the file are used
    const std::vector<char> selected = f.bytes("selected");
    const size_t width = f.at("selected").shape[2];
    std::vector<int> chosen(slots, -1);
    for (int h = 0; h < H; h++) {
        for (int t = 0; t < M; t++) {
            int* slot = chosen.data() + ((size_t)h * M + t) * K;
            for (size_t n = 0; n < width; n++) {
                if (selected[((size_t)t * H + h) * width + n]) {
                    *slot++ = seqs.level[0].first[seqs.level[0].own[t]] + (int)n;
                }
            }
        }
    }
    routing.chosen = on.put(chosen);
    Ctx best = on.ctx;
    best.kernel_version = 0;
    op.gate_lists(best, routing, there, gate);
    float *out = on.make<float>(q.size()), *lse = on.make<float>((size_t)H * M),
          *dq = on.make<float>(q.size()), *dk = on.make<float>(k.size()), *dv = on.make<float>(v.size());
    op.attention_forward(on.ctx, out, lse, dq_in, dk_in, dv_in, routing, there, shape);
    float* delta = on.make<float>((size_t)H * M);
    op.attention_delta(best, delta, dout, out, {M, H, D});
    op.attention_backward(on.ctx, dq, dk, dv, dout, delta, dq_in, dk_in, dv_in, lse, routing, there, shape);
    const std::string impl = name_of(device) + " version " + std::to_string(version);
    report(path, "out" + impl, relative_error(on.get(out, q.size()), f.floats("out")), 1e-5);
    report(path, "dq" + impl, relative_error(on.get(dq, q.size()), f.floats("dq")), 1e-5);
    report(path, "dk" + impl, relative_error(on.get(dk, k.size()), f.floats("dk")), 1e-5);
    report(path, "dv" + impl, relative_error(on.get(dv, v.size()), f.floats("dv")), 1e-5);
}

}  // namespace

TEST(Golden, Attention) {
    const auto files = golden_files("attn_");
    ASSERT_FALSE(files.empty()) << "no attn_* files in " << golden_folder();
    for (const std::string& path : files) {
        for (Device d : devices()) {
            for (int version : {1, 2}) { run_attention(path, d, version); }
        }
    }
}

static void run_model(const std::string& path, Device device) {
    const Safetensors f(path);
    Config c;
    c.vocab_size = setting(f, "vocab");
    c.hidden_size = setting(f, "hidden");
    c.num_layers = setting(f, "layers");
    c.num_heads = setting(f, "heads");
    c.num_kv_heads = setting(f, "kv_heads");
    c.head_dim = setting(f, "head_dim");
    c.intermediate_size = setting(f, "ffn");
    c.rope_theta = real(f, "theta");
    c.rms_norm_eps = real(f, "eps");
    c.block_size = setting(f, "block");
    c.top_k = setting(f, "topk");
    c.tie_word_embeddings = f.setting("tied") == "True";
    c.layers = parse_layers("moba", c.num_layers);
    for (int i = 0; i < setting(f, "full_layers"); i++) {
        c.layers[c.num_layers - 1 - i].attention = AttentionKind::full;
    }
    const int B = setting(f, "batch"), T = setting(f, "seq_len");

    const std::string on = name_of(device);
    Model<float> model(c, {.max_tokens = B * T, .max_seqs = B, .max_position = T, .training = true}, device);
    model.allocate();
    for (const ParamInfo& p : model.params()) {
        model.write_param(Model<float>::Kind::weight, p, f.floats("param." + p.name));
    }
    model.set_optimizer({.beta1 = real(f, "beta1"),
                         .beta2 = real(f, "beta2"),
                         .eps = real(f, "adam_eps"),
                         .weight_decay = std::stod(f.setting("weight_decay")),
                         .clip = real(f, "grad_clip")});
    const std::vector<int> tokens = f.ints("tokens"), targets = f.ints("targets");
    const int counted =
        (int)std::count_if(targets.begin(), targets.end(), [](int t) { return t != ignored; });
    std::vector<int> cu;
    for (int b = 0; b <= B; b++) { cu.push_back(b * T); }
    const std::vector<float> losses = f.floats("losses"), norms = f.floats("grad_norms");
    double worst_loss = 0, worst_norm = 0;
    for (int step = 1; step <= setting(f, "steps"); step++) {
        const StepState state{0, (uint32_t)step, 0, 1.0 / counted, real(f, "lr")};
        model.set_batch(tokens.data(), targets.data(), cu, state);
        model.zero_gradients();
        model.forward();
        std::vector<float> values;
        if (step == 1) {
            model.read_logits(0, B * T, values);
            report(path, "logits" + on, relative_error(values, f.floats("logits")), 1e-5);
        }
        model.loss(Pass::training);
        model.backward();
        if (step == 1) {
            double worst = 0;
            for (const ParamInfo& p : model.params()) {
                model.read_param(Model<float>::Kind::gradient, p, values);
                const double e = relative_error(values, f.floats("grad." + p.name));
                if (!(e <= worst)) { worst = e; }
            }
            report(path, "all gradients" + on, worst, 5e-5);
        }
        std::vector<int> correct;
        model.read_losses(values, correct);
        double sum = 0;
        for (float x : values) { sum += x; }
        worst_loss = std::max(worst_loss, std::fabs(sum / counted / losses[step - 1] - 1));
        model.update(state);
        worst_norm = std::max(worst_norm, std::fabs(model.gradient_norm() / norms[step - 1] - 1));
    }
    report(path, "ten losses" + on, worst_loss, 1e-4);
    report(path, "ten gradient norms" + on, worst_norm, 1e-3);
    double worst = 0;
    for (const ParamInfo& p : model.params()) {
        std::vector<float> values;
        model.read_param(Model<float>::Kind::weight, p, values);
        const std::vector<float> want = f.floats("param_after." + p.name);
        worst = std::max(worst, max_abs_error(values.data(), want.data(), want.size()));
    }
    report(path, "weights after (absolute)" + on, worst, 2 * real(f, "lr"));
    std::string broken;
    EXPECT_TRUE(model.guards_intact(&broken)) << broken;
}

TEST(Golden, Model) {
    const auto files = golden_files("model_");
    ASSERT_FALSE(files.empty()) << "no model_* files in " << golden_folder();
    for (const std::string& path : files) {
        for (Device d : devices()) { run_model(path, d); }
    }
}

}  // namespace moba
