#include "moba/context_attention.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

// A quarter more than each rank would get if all got the same. The tables have rows of all heads as ints.
static int guests_of_head(const Config& c, int rows) {
    const long guests = rows * (c.top_k - 1l) * 5 / 4 + 64,
               most = std::max(rows + guests, rows * (long)c.top_k);
    need(most * c.num_heads < 1l << 31, "--context-parallel: " + std::to_string(rows) +
                                            " tokens for each rank are too many with " +
                                            std::to_string(c.num_heads) + " heads that choose " +
                                            std::to_string(c.top_k) + " blocks; use more ranks");
    return (int)guests;
}

template <class E>
ContextAttention<E>::ContextAttention(const Config& config, int max_tokens, int max_seqs, bool training,
                                      Device device, Comm& comm, int ranks, int most_guests)
    : config_(config), memory_(find_device(device)), comm_(comm), ranks_(ranks),
      first_rank_(comm.rank() / ranks * ranks), rank_(comm.rank() % ranks), training_(training),
      whole_tokens_(max_tokens), most_rows_(most_dealt(max_tokens, max_seqs, config.block_size, ranks)),
      most_guests_(most_guests ? most_guests : guests_of_head(config, most_rows_)),
      most_blocks_(max_blocks(max_tokens, max_seqs, config.block_size)) {
    REQUIRE(config.num_block_sizes == 1, "%d block sizes", config.num_block_sizes);
    most_extended_ = (size_t)most_rows_ + most_guests_;
    most_sent_ = (size_t)H() * std::max(most_guests_, most_rows_ * K());
    if (const size_t tokens = full_tokens()) {
        need(tokens * H() < 1ul << 31, "--context-parallel: " + std::to_string(max_tokens) + " tokens with " +
                                           std::to_string(H()) + " heads are too many for full layers");
        most_extended_ = std::max(most_extended_, tokens);
        most_sent_ = std::max(most_sent_, G() * std::max((size_t)max_tokens, (size_t)ranks_ * most_rows_));
    }
    for (const LayerKind& kind : config.layers) {
        if (kind.attention != AttentionKind::window) { continue; }
        most_extended_ = std::max(most_extended_, most_rows_ + most_halo(kind.window));
        // a token of this rank can be in the halos of all other ranks
        most_sent_ = std::max(most_sent_, G() * std::min(ranks_ * most_halo(kind.window),
                                                         (size_t)most_blocks_ * (kind.window - 1)));
    }
}

template <class E>
void ContextAttention<E>::plan(Arena& arena) {
    const size_t tokens = most_extended_, blocks = most_blocks_, parts = parts_of(config_.gate),
                 local = most_local_blocks(), HD = (size_t)H() * D(), GD = (size_t)G() * D(),
                 slots = (size_t)H() * most_rows_ * std::max(K(), 2), choosing = most_rows_ + blocks * parts,
                 sent = most_sent_;
    const auto take = [&](const char* name, size_t n) { return arena.template take<E>(name, n); };
    const auto table = [&](const char* name, size_t n) { return arena.template take<int>(name, n); };
    gate_k_ = take("context.choice.k", choosing * GD);
    means_ = take("context.means", local * parts * GD);
    all_means_ = take("context.means of all", blocks * parts * GD);
    gate_table_ = table("context.choice.blocks", 2 * (size_t)most_rows_ + 2 * blocks + 3);
    gate_chosen_ = table("context.choice", (size_t)H() * most_rows_ * K());
    mean_rows_ = table("context.rows of means", blocks * parts);
    q_ = take("context.q", tokens * HD);
    out_ = take("context.out", tokens * HD);
    k_ = take("context.k", tokens * GD);
    v_ = take("context.v", tokens * GD);
    lse_ = arena.template take<A>("context.lse", tokens * H());
    part_ = take("context.slots", slots * D());
    part_lse_ = arena.template take<A>("context.lse of slots", slots);
    sent_ = take("context.sent", sent * D());
    got_ = take("context.received", sent * D());
    // of the keys, and of the queries after them
    const size_t pieces = tokens / config_.block_size + 3 + (full_tokens() ? blocks : 2 * local);
    table_ = table("context.blocks", 2 * tokens + 2 * pieces + 8);
    chosen_ = table("context.chosen", tokens * H());
    list_ = table("context.lists", tokens * H());
    list_start_ = table("context.list starts", H() * (pieces + 1));
    from_ = table("context.from", sent);
    from_lse_ = table("context.from lse", sent);
    slot_ = table("context.slot", sent);
    to_ = table("context.to", sent);
    to_lse_ = table("context.to lse", sent);
    own_slot_ = table("context.own slot", (size_t)H() * most_rows_);
    own_lse_ = table("context.own lse", (size_t)H() * most_rows_);
    used_ = table("context.used", (size_t)H() * most_rows_);
    if (!training_) { return; }
    dout_ = take("context.dout", tokens * HD);
    dk_ = take("context.dk", tokens * GD);
    dv_ = take("context.dv", tokens * GD);
    delta_ = arena.template take<A>("context.delta", tokens * H());
    const size_t all = full_tokens() ? (size_t)whole_tokens_ * GD : 0;
    dk_all_ = take("context.dk of all", all);
    dv_all_ = take("context.dv of all", all);
}

template <class E>
AttentionShape ContextAttention<E>::one_slot() const {
    AttentionShape s = config_.attention_shape(0);
    s.kind = AttentionKind::moba;
    s.gate.K = 1;
    return s;
}

template <class E>
size_t ContextAttention<E>::workspace_bytes(const WorkspaceBytes<E>& need) const {
    const BlockSizes sizes{config_.block_size, 1};
    const int tokens = (int)most_extended_;
    const Direction direction = training_ ? Direction::backward : Direction::forward;
    const AttentionShape one = one_slot();
    const GateShape gate = config_.attention_shape(0).gate;
    size_t most = std::max({need.gate(most_rows_, most_blocks_, sizes, gate),
                            need.gate_lists(tokens, most_blocks_, sizes, one.gate),
                            need.attention(tokens, most_blocks_, sizes, one, direction)});
    for (int l = 0; l < config_.num_layers; l++) {
        const AttentionShape s = config_.attention_shape(l);
        if (s.kind == AttentionKind::window) {
            most = std::max(most, need.attention(tokens, most_blocks_, sizes, s, direction));
        } else if (s.kind == AttentionKind::full) {
            const BlockSizes chunks{chunk_blocks * config_.block_size, 1};
            most = std::max(most, need.attention(tokens, most_blocks_, chunks, one, direction));
        }
    }
    return most;
}

template <class E>
void ContextAttention<E>::set_batch(const Sequences& whole) {
    REQUIRE(whole.num_tokens <= whole_tokens_ && whole.level[0].num_blocks <= most_blocks_,
            "%d tokens in %d blocks", whole.num_tokens, whole.level[0].num_blocks);
    whole_ = whole;
    dealt_ = deal(whole.level[0], whole.num_tokens, ranks_, rank_);
    plans_.assign(config_.num_layers, {});
    halos_.clear();
    for (const LayerKind& kind : config_.layers) {
        if (kind.attention != AttentionKind::window || halos_.count(kind.window)) { continue; }
        halos_[kind.window] = make_halo(kind.window);
    }
}

/* Rows between the ranks of the group, in the order of the ranks on both sides. */
template <class E>
typename ContextAttention<E>::Messages ContextAttention<E>::messages(void* data, const Counts& send,
                                                                     void* got, const Counts& receive,
                                                                     size_t row_bytes) const {
    Messages m{.send = std::vector<Transport::Bytes>(comm_.size()),
               .receive = std::vector<Transport::Bytes>(comm_.size()),
               .own = {},
               .own_copy = {}};
    char *from = (char*)data, *to = (char*)got;
    for (int r = 0; r < ranks_; r++) {
        m.send[first_rank_ + r] = {from, send[r] * row_bytes};
        m.receive[first_rank_ + r] = {to, receive[r] * row_bytes};
        from += send[r] * row_bytes, to += receive[r] * row_bytes;
    }
    m.own = m.send[comm_.rank()], m.own_copy = m.receive[comm_.rank()];
    return m;
}

template <class E>
void ContextAttention<E>::exchange(const Ctx& ctx, E* data, const Counts& send, E* got, const Counts& receive,
                                   size_t width) {
    const Messages m = messages(data, send, got, receive, width * sizeof(E));
    memory_->copy(ctx, m.own_copy.data, m.own.data, m.own.count);
    bytes_sent_ += comm_.bytes_to_others(m.send);
    comm_.start_exchange(ctx, m.send, m.receive);
    comm_.finish(ctx);
}

/* all: the rows of every rank, rank by rank. */
template <class E>
void ContextAttention<E>::gather(const Ctx& ctx, const E* mine, E* all, const Counts& counts, size_t width) {
    Messages m = messages(nullptr, Counts(ranks_), all, counts, width * sizeof(E));
    const Transport::Bytes own = {(void*)mine, counts[rank_] * width * sizeof(E)};
    std::fill_n(m.send.begin() + first_rank_, ranks_, own);
    memory_->copy(ctx, m.own_copy.data, mine, own.count);
    bytes_sent_ += comm_.bytes_to_others(m.send);
    comm_.start_exchange(ctx, m.send, m.receive);
    comm_.finish(ctx);
}

// One sequence of so many tokens: own ones in their blocks, then guests, in blocks that nobody chooses.
template <class E>
Sequences ContextAttention<E>::extended(const Ctx& ctx, int tokens) {
    const int M = rows(), S = config_.block_size;
    std::vector<int> start;
    for (int n : dealt_.blocks[rank_]) { start.push_back(dealt_.row[whole_.level[0].start[n]]); }
    for (int t = M; t < tokens; t += S) { start.push_back(t); }
    return one_sequence(ctx, start, tokens, S);
}

/* One sequence, whose blocks of at most `size` tokens begin at `start`. */
template <class E>
Sequences ContextAttention<E>::one_sequence(const Ctx& ctx, std::vector<int> start, int tokens, int size) {
    const int N = (int)start.size();
    start.push_back(tokens);
    std::vector<int> own(tokens), table = {0, tokens};
    for (int n = 0; n < N; n++) { std::fill(own.begin() + start[n], own.begin() + start[n + 1], n); }
    for (int t = 0; t < tokens; t++) { table.push_back(t); }
    table.insert(table.end(), start.begin(), start.end());
    table.insert(table.end(), N, 0);  // the first block of the sequence
    table.insert(table.end(), own.begin(), own.end());
    upload(ctx, table_, table);
    const int* at = table_ + 2 + tokens;
    Sequences s{tokens, 1, tokens, {size, 1}, table_, table_ + 2, {}};
    s.level[0] = {N, at, at + N + 1, at + 2 * N + 1, size};
    return s;
}

/* chosen (H, tokens): one block for each query, or -1. */
template <class E>
Routing ContextAttention<E>::routing(const Ctx& ctx, const Ops<E>& op, const std::vector<int>& chosen,
                                     const Sequences& seqs) {
    upload(ctx, chosen_, chosen);
    const Routing r{chosen_, list_start_, list_};
    op.gate_lists(ctx, r, seqs, one_slot().gate);
    return r;
}

// chosen: each of the own tokens chooses its own block.
template <class E>
void ContextAttention<E>::choose_own_blocks(std::vector<int>& chosen, int tokens) const {
    const BlockTable& blocks = whole_.level[0];
    parallel_for(H(), [&](size_t h, int) {
        for (int t = 0; t < rows(); t++) {
            chosen[h * tokens + t] = dealt_.place[blocks.own[dealt_.tokens[t]]];
        }
    });
}

template <class E>
void ContextAttention<E>::forward(const Ctx& ctx, const Ops<E>& op, int layer, E* out, A* lse, const E* q,
                                  const E* k, const E* v) {
    switch (config_.layers[layer].attention) {
    case AttentionKind::full:
        return full_forward(ctx, op, out, lse, q, k, v);
    case AttentionKind::window:
        return window_forward(ctx, op, layer, out, lse, q, k, v);
    case AttentionKind::moba:
        return moba_forward(ctx, op, plans_[layer], out, lse, q, k, v);
    }
}

template <class E>
void ContextAttention<E>::backward(const Ctx& ctx, const Ops<E>& op, int layer, E* dq, E* dk, E* dv,
                                   const E* dout, const A* delta, const E* q, const E* k, const E* v,
                                   const A* lse) {
    switch (config_.layers[layer].attention) {
    case AttentionKind::full:
        return full_backward(ctx, op, dq, dk, dv, dout, delta, q, k, v, lse);
    case AttentionKind::window:
        return window_backward(ctx, op, layer, dq, dk, dv, dout, delta, q, k, v, lse);
    case AttentionKind::moba:
        return moba_backward(ctx, op, plans_[layer], dq, dk, dv, dout, delta, q, k, v, lse);
    }
}

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
