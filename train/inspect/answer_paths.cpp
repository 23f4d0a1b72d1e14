#include "train/inspect/answer_paths.h"
#include "moba/core/parallel.h"

namespace moba {

namespace {

constexpr size_t rows_at_once = 64;

// The keys that query t sees in head h, with their attention weights.
std::vector<std::pair<int, double>> attention_row(const AttentionView& v, int t, int h) {
    std::vector<std::pair<int, double>> row;
    double top = -INFINITY, sum = 0;
    v.each_seen(t, h, [&](int first, int end) {
        for (int j = first; j < end; j++) {
            row.emplace_back(j, v.logit(t, h, j));
            top = std::max(top, row.back().second);
        }
    });
    for (auto& [j, x] : row) { sum += x = std::exp(x - top); }
    for (auto& [j, x] : row) { x = std::isfinite(x / sum) ? x / sum : 0; }
    return row;
}

void keep_best(std::vector<Path>& paths, Path more) {
    const auto at =
        std::find_if(paths.begin(), paths.end(), [&](const Path& p) { return more.weight > p.weight; });
    paths.insert(at, std::move(more));
    if (paths.size() > AnswerPaths::most_paths) { paths.pop_back(); }
}

Path with_hop(const Path& path, const Hop& hop) {
    Path out{path.weight * hop.weight, {hop}};
    out.hops.insert(out.hops.end(), path.hops.begin(), path.hops.end());
    return out;
}

}  // namespace

AnswerPaths::AnswerPaths(const Sequences& seqs, int question, int source)
    : source_(source), begin_(question - seqs.position[question]), reach_(question + 1 - begin_) {
    from_[question] = {Path{}};
    sums_ = {std::vector<double>(question + 1 - begin_)};
    sums_[0].back() = 1;
    reach_.back() = 1;
}

void AnswerPaths::add(const AttentionView& v, int layer) {
    reach_ = read_by(v, reach_, begin_);
    const std::vector<std::pair<int, std::vector<Path>>> tokens(from_.begin(), from_.end());
    sums_.emplace_back(sums_[0].size());
    std::vector<std::vector<double>> sums = sums_;
    const size_t H = v.shape.H, count = tokens.size() * H;
    std::vector<std::vector<std::pair<int, double>>> rows(rows_at_once);
    for (size_t first = 0; first < count; first += rows_at_once) {
        const size_t some = std::min(rows_at_once, count - first);
        parallel_for(some, [&](size_t i, int) {
            rows[i] = attention_row(v, tokens[(first + i) / H].first, (int)((first + i) % H));
        });
        for (size_t i = 0; i < some; i++) {
            const auto& [to, paths] = tokens[(first + i) / H];
            for (const auto& [from, weight] : rows[i]) {
                if (from == to) { continue; }  // it has this state anyway
                for (size_t n = 0; n + 1 < sums.size(); n++) {
                    sums[n + 1][from - begin_] += sums_[n][to - begin_] * weight;
                }
                for (const Path& p : paths) {
                    const double product = p.weight * weight;
                    if (product < least_weight) { break; }
                    std::vector<Path>& known = from_[from];
                    if (known.size() == most_paths && product <= known.back().weight) { break; }
                    keep_best(known, with_hop(p, {layer, (int)((first + i) % H), from, to, weight}));
                }
            }
        }
    }
    sums_.swap(sums);
    std::vector<std::pair<double, int>> order;
    for (const auto& [token, paths] : from_) { order.emplace_back(-paths[0].weight, token); }
    std::sort(order.begin(), order.end());
    for (size_t i = widest; i < order.size(); i++) {
        if (order[i].second != source_) { from_.erase(order[i].second); }
    }
}

const std::vector<Path>& AnswerPaths::best() const {
    static const std::vector<Path> none;
    const auto at = from_.find(source_);
    return at == from_.end() ? none : at->second;
}

}  // namespace moba
