/* Window layers of ContextAttention: keys and values come to the queries. Each run of neighbouring blocks of
   a rank becomes one sequence, which begins with the W - 1 tokens before the run (the halo). */
#include "moba/context_attention.h"
#include <algorithm>
#include <map>

namespace moba {

template <class E>
typename ContextAttention<E>::Halo ContextAttention<E>::make_halo(int window) const {
    const BlockTable& blocks = whole_.level[0];
    Halo h{.cu = {0}, .own = {}, .take = {}, .give = {}};
    h.take.resize(ranks_), h.give.resize(ranks_);
    for (int r = 0; r < ranks_; r++) {
        int row = 0;  // of the extended tensors of rank r
        const std::vector<int>& of_rank = dealt_.blocks[r];
        for (size_t i = 0; i < of_rank.size();) {
            const int n = of_rank[i];
            size_t end = i + 1;  // of the run
            while (end < of_rank.size() && of_rank[end] == of_rank[end - 1] + 1 &&
                   blocks.first[of_rank[end]] == blocks.first[n]) {
                end++;
            }
            const int begin = blocks.start[n], last = blocks.start[of_rank[end - 1] + 1],
                      sequence = blocks.start[blocks.first[n]];
            for (int t = std::max(sequence, begin - window + 1); t < last; t++, row++) {
                const int owner = dealt_.owner_of_token[t];
                const bool halo = t < begin;
                if (halo && owner == rank_) { h.give[r].push_back(dealt_.row[t]); }
                if (halo && r == rank_) { h.take[owner].push_back(row); }
                if (!halo && r == rank_) { h.own.push_back(row); }
            }
            if (r == rank_) { h.cu.push_back(row); }
            i = end;
        }
    }
    return h;
}

// Tokens. A run has a halo only if a full block of its sequence precedes it.
template <class E>
size_t ContextAttention<E>::most_halo(int window) const {
    const int runs = std::min(most_local_blocks(), whole_tokens_ / config_.block_size);
    return (size_t)runs * std::min(window - 1, whole_tokens_);
}

static std::vector<size_t> sizes_of(const std::vector<std::vector<int>>& lists) {
    std::vector<size_t> n;
    for (const auto& list : lists) { n.push_back(list.size()); }
    return n;
}
static std::vector<int> joined_lists(const std::vector<std::vector<int>>& lists) {
    std::vector<int> all;
    for (const auto& list : lists) { all.insert(all.end(), list.begin(), list.end()); }
    return all;
}

// q, k and v into the extended tensors, and the sequences of these.
template <class E>
Sequences ContextAttention<E>::extend_runs(const Ctx& ctx, const Ops<E>& op, const Halo& h, const E* q,
                                           const E* k, const E* v) {
    const int M = rows(), tokens = h.cu.back(), HD = H() * D(), GD = G() * D();
    const std::vector<int> give = joined_lists(h.give), take = joined_lists(h.take);
    upload(ctx, from_, give), upload(ctx, to_, take), upload(ctx, own_slot_, h.own);
    memory_->zero(ctx, q_, (size_t)tokens * HD * sizeof(E));
    op.put_rows(ctx, q_, q, own_slot_, {M, tokens, HD});
    for (const auto& [from, to] : {std::pair{k, k_}, {v, v_}}) {
        op.put_rows(ctx, to, from, own_slot_, {M, tokens, GD});
        op.gather_rows(ctx, sent_, from, from_, {(int)give.size(), M, GD});
        exchange(ctx, sent_, sizes_of(h.give), got_, sizes_of(h.take), GD);
        op.put_rows(ctx, to, got_, to_, {(int)take.size(), tokens, GD});
    }
    if (tokens == 0) { return {}; }
    std::vector<int> table;
    const Sequences host = build_sequences(table, h.cu, {config_.block_size, 1});
    upload(ctx, table_, table);
    return rebase(host, table.data(), table_);
}

template <class E>
void ContextAttention<E>::window_forward(const Ctx& ctx, const Ops<E>& op, int layer, E* out, A* lse,
                                         const E* q, const E* k, const E* v) {
    const AttentionShape s = config_.attention_shape(layer);
    const Halo& h = halos_.at(s.window);
    const int M = rows(), tokens = h.cu.back();
    const Sequences seqs = extend_runs(ctx, op, h, q, k, v);
    if (tokens > 0) { op.attention_forward(ctx, out_, lse_, q_, k_, v_, {}, seqs, s); }
    op.gather_rows(ctx, out, out_, own_slot_, {M, tokens, H() * D()});
    std::vector<A> all((size_t)H() * tokens), mine((size_t)H() * M);
    memory_->to_host(ctx, all.data(), lse_, all.size() * sizeof(A));
    for (int i = 0; i < H(); i++) {
        for (int t = 0; t < M; t++) { mine[(size_t)i * M + t] = all[(size_t)i * tokens + h.own[t]]; }
    }
    memory_->to_device(ctx, lse, mine.data(), mine.size() * sizeof(A));
}

/* The queries of the halo belong to other ranks: with dout = 0 and delta = 0 they add nothing. */
template <class E>
void ContextAttention<E>::window_backward(const Ctx& ctx, const Ops<E>& op, int layer, E* dq, E* dk, E* dv,
                                          const E* dout, const A* delta, const E* q, const E* k, const E* v,
                                          const A* lse) {
    const AttentionShape s = config_.attention_shape(layer);
    const Halo& h = halos_.at(s.window);
    const int M = rows(), tokens = h.cu.back(), HD = H() * D(), GD = G() * D();
    const Sequences seqs = extend_runs(ctx, op, h, q, k, v);
    memory_->zero(ctx, dout_, (size_t)tokens * HD * sizeof(E));
    op.put_rows(ctx, dout_, dout, own_slot_, {M, tokens, HD});
    std::vector<A> mine((size_t)H() * M), all;
    for (const auto& [from, to, other] : {std::tuple{lse, lse_, A(1e30)}, {delta, delta_, A(0)}}) {
        memory_->to_host(ctx, mine.data(), from, mine.size() * sizeof(A));
        all.assign((size_t)H() * tokens, other);
        for (int i = 0; i < H(); i++) {
            for (int t = 0; t < M; t++) { all[(size_t)i * tokens + h.own[t]] = mine[(size_t)i * M + t]; }
        }
        memory_->to_device(ctx, to, all.data(), all.size() * sizeof(A));
    }
    if (tokens > 0) {
        op.attention_backward(ctx, out_, dk_, dv_, dout_, delta_, q_, k_, v_, lse_, {}, seqs, s);
    }
    op.gather_rows(ctx, dq, out_, own_slot_, {M, tokens, HD});

    // Gradients of the halos go back. A token can be in several of them: wave w adds its w-th one.
    const std::vector<int> give = joined_lists(h.give), take = joined_lists(h.take);
    std::map<int, int> seen;
    std::vector<std::vector<int>> place, row;  // by wave: in what came, and of dk
    for (size_t i = 0; i < give.size(); i++) {
        const size_t wave = seen[give[i]]++;
        if (wave == row.size()) { place.emplace_back(), row.emplace_back(); }
        place[wave].push_back((int)i), row[wave].push_back(give[i]);
    }
    for (const auto& [sum, extended] : {std::pair{dk, dk_}, {dv, dv_}}) {
        op.gather_rows(ctx, sum, extended, own_slot_, {M, tokens, GD});
        upload(ctx, to_, take);
        op.gather_rows(ctx, got_, extended, to_, {(int)take.size(), tokens, GD});
        exchange(ctx, got_, sizes_of(h.take), sent_, sizes_of(h.give), GD);
        for (size_t w = 0; w < row.size(); w++) {
            const int count = (int)row[w].size();
            upload(ctx, from_, place[w]), upload(ctx, slot_, row[w]);
            op.gather_rows(ctx, got_, sent_, from_, {count, (int)give.size(), GD});
            op.add_rows(ctx, sum, got_, slot_, {count, M, GD});
        }
    }
}

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
