#include "moba/attention_view.h"
#include "moba/attention/gate_cpu.h"

namespace moba {

float AttentionView::score(int t, int h, int block) const {
    const int D = shape.D;
    const float *a = query(t, h), *b = means[h / (shape.H / shape.G)].data() + (size_t)block * D;
    float sum = 0;
    for (int d = 0; d < D; d++) { sum += a[d] * b[d]; }
    return sum;
}

bool AttentionView::is_chosen(int t, int h, int block) const {
    const int K = shape.gate.slots(seqs, h);
    const int* row = chosen[h].data() + (size_t)t * K;
    return std::find(row, row + K, block) != row + K;
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

template <class E>
AttentionView view_attention(const Model<E>& model, int layer) {
    AttentionView v;
    v.shape = model.config().attention_shape(layer);
    v.seqs = model.sequences();
    const auto& s = model.layer(layer);
    const AttentionShape& a = v.shape;
    const size_t M = v.seqs.num_tokens, row = (size_t)a.G * a.D;
    const std::vector<E> q = read(model.ctx(), s.q, M * a.H * a.D),
                         k = read(model.ctx(), model.keys(layer), M * row);
    v.q.assign(q.begin(), q.end());
    v.k.assign(k.begin(), k.end());
    for (int g = 0; g < a.G; g++) {
        const BlockTable& blocks = v.blocks(g * (a.H / a.G));
        std::vector<float>& means = v.means.emplace_back((size_t)blocks.num_blocks * a.D);
        for (int n = 0; n < blocks.num_blocks; n++) {
            block_mean<E>(means.data() + (size_t)n * a.D, 1, k.data() + blocks.start[n] * row + g * a.D, row,
                          blocks.start[n + 1] - blocks.start[n], a.D);
        }
    }
    if (a.kind != AttentionKind::moba) { return v; }
    for (int h = 0; h < a.H; h++) {
        v.chosen.push_back(
            read(model.ctx(), s.routing.chosen + a.gate.first_slot(v.seqs, h), M * a.gate.slots(v.seqs, h)));
    }
    return v;
}

template AttentionView view_attention(const Model<float>&, int);
template AttentionView view_attention(const Model<bf16>&, int);

}  // namespace moba
