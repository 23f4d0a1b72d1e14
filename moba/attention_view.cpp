#include "moba/attention_view.h"
#include "moba/attention/gate_cpu.h"

namespace moba {

float AttentionView::score(int t, int h, int block) const {
    const int D = shape.D, group = shape.H / shape.G, g = h / group, parts = parts_of(shape.gate.rule);
    const float* a = gate_q.empty() ? query(t, h) : gate_q.data() + (row(t) * shape.G + g) * D;
    float sum[4] = {};
    for (int i = 0; i < parts; i++) {
        const float* b = means[g].data() + ((size_t)block * parts + i) * D;
        for (int d = 0; d < D; d++) { sum[i] += a[d] * b[d]; }
    }
    return parts == 1 ? sum[0] : lse_score(sum[0], sum[1], sum[2], sum[3], 1 / std::sqrt((float)D));
}

bool AttentionView::is_chosen(int t, int h, int block) const {
    const int K = shape.gate.slots(seqs, h);
    const int* begin = chosen[h].data() + row(t) * K;
    return std::find(begin, begin + K, block) != begin + K;
}

// Eight sums, because a single one does not vectorise.
double AttentionView::logit(int t, int h, int j) const {
    const float *a = query(t, h), *b = key(j, h);
    double sum[8] = {};
    int d = 0;
    for (; d + 8 <= shape.D; d += 8) {
        for (int l = 0; l < 8; l++) { sum[l] += (double)a[d + l] * b[d + l]; }
    }
    for (; d < shape.D; d++) { sum[0] += (double)a[d] * b[d]; }
    const double all = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    return all / std::sqrt((double)shape.D);
}

std::vector<char> read_by(const AttentionView& layer, const std::vector<char>& after, int begin) {
    // edges[i]: ranges that begin at token i, minus those that ended before it
    std::vector<int> edges(after.size() + 1);
    for (int u = 0; u < (int)after.size(); u++) {
        if (!after[u]) { continue; }
        for (int h = 0; h < layer.shape.H; h++) {
            layer.each_seen(begin + u, h, [&](int first, int end) {
                edges[first - begin]++;
                edges[end - begin]--;
            });
        }
    }
    std::vector<char> before = after;  // the residual stream: each token keeps its information
    for (int u = 0, open = 0; u < (int)after.size(); u++) {
        open += edges[u];
        before[u] |= open > 0;
    }
    return before;
}

template <class X>
static std::vector<X> read(const Ctx& ctx, const X* data, size_t count) {
    std::vector<X> out(count);
    find_device(ctx.device)->to_host(ctx, out.data(), data, count * sizeof(X));
    return out;
}

// The choices of the asked tokens, which decoding does not store.
static void choose_again(AttentionView& v) {
    const GateShape& gate = v.shape.gate;
    for (int h = 0; h < v.shape.H; h++) {
        const BlockTable& blocks = v.blocks(h);
        const int K = gate.slots(v.seqs, h);
        std::vector<int>& chosen = v.chosen.emplace_back(v.asked.size() * K);
        for (size_t i = 0; i < v.asked.size(); i++) {
            const int t = v.asked[i], own = blocks.own[t], first = blocks.first[own];
            int* row = chosen.data() + i * K;
            if (!has_scores(gate.rule)) {
                choose_by_place(row, K, first, own, gate.rule);
                continue;
            }
            Best<float> best;
            best.limit = std::min(K - 1, own - first);
            for (int n = first; n < own; n++) { best.offer(v.score(t, h, n), n); }
            write_choice(row, K, best.block, best.count, own);
        }
    }
}

template <class E>
AttentionView view_attention(const Model<E>& model, int layer) {
    AttentionView v;
    v.shape = model.config().attention_shape(layer);
    v.seqs = model.sequences();
    const auto& s = model.layer(layer);
    const AttentionShape& a = v.shape;
    if (model.asked_only()) {
        v.asked = model.asked();
        if (layer + 1 < model.config().num_layers) { return v; }
    }
    const size_t M = v.seqs.num_tokens, row = (size_t)a.G * a.D,
                 queries = v.asked.empty() ? M : v.asked.size();
    const std::vector<E> q = read(model.ctx(), s.q, queries * a.H * a.D),
                         k = read(model.ctx(), model.keys(layer), M * row);
    v.q.assign(q.begin(), q.end());
    if (a.gate.together()) {
        std::vector<E> sums(queries * row);
        for (size_t i = 0; i < queries * a.G; i++) {
            sum_queries(sums.data() + i * a.D, q.data() + i * (a.H / a.G) * a.D, a.H / a.G, a.D);
        }
        v.gate_q.assign(sums.begin(), sums.end());
    }
    v.k.assign(k.begin(), k.end());
    for (int g = 0; g < a.G; g++) {
        const BlockTable& blocks = v.blocks(g * (a.H / a.G));
        const int parts = parts_of(a.gate.rule);
        std::vector<float>& means = v.means.emplace_back((size_t)blocks.num_blocks * parts * a.D);
        for (int n = 0; n < blocks.num_blocks; n++) {
            const int count = blocks.start[n + 1] - blocks.start[n];
            for (int i = 0; i < parts; i++) {
                const int first = count * i / parts, end = count * (i + 1) / parts;
                pool_keys<E>(means.data() + ((size_t)n * parts + i) * a.D, 1,
                             k.data() + (blocks.start[n] + first) * row + g * a.D, row, end - first, a.D,
                             a.gate.rule);
            }
        }
    }
    if (a.kind != AttentionKind::moba) { return v; }
    if (!v.asked.empty()) {
        choose_again(v);
        return v;
    }
    for (int h = 0; h < a.H; h++) {
        v.chosen.push_back(
            read(model.ctx(), s.routing.chosen + a.gate.first_slot(v.seqs, h), M * a.gate.slots(v.seqs, h)));
    }
    return v;
}

template AttentionView view_attention(const Model<float>&, int);
template AttentionView view_attention(const Model<bf16>&, int);

}  // namespace moba
