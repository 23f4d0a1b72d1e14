#include "moba/context_attention.h"
#include <algorithm>
#include <numeric>

namespace moba {

template <class E>
ContextAttention<E>::ContextAttention(const Config& config, int max_tokens, int max_seqs, bool training,
                                      Device device, Comm& comm, int ranks, int most_guests)
    : config_(config), memory_(find_device(device)), comm_(comm), ranks_(ranks),
      first_rank_(comm.rank() / ranks * ranks), rank_(comm.rank() % ranks), training_(training),
      whole_tokens_(max_tokens), most_rows_(most_dealt(max_tokens, max_seqs, config.block_size, ranks)),
      most_guests_((int)(most_guests ? most_guests : most_rows_ * (config.top_k - 1l) * 5 / 4 + 64)),
      most_blocks_(max_blocks(max_tokens, max_seqs, config.block_size)) {
    REQUIRE(config.num_block_sizes == 1, "%d block sizes", config.num_block_sizes);
    REQUIRE((long)H() * most_rows_ * std::max(K(), 2) < 1l << 31 && most_guests_ > 0,
            "%d heads of %d tokens, K = %d", H(), most_rows_, K());
    most_extended_ = most_rows_ + most_guests_;
    most_sent_ = (size_t)H() * std::max(most_guests_, most_rows_ * K());
    if (const size_t tokens = full_tokens()) {
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
                 guests = most_sent_;
    const auto take = [&](const char* name, size_t n) { return arena.template take<E>(name, n); };
    const auto table = [&](const char* name, size_t n) { return arena.template take<int>(name, n); };
    gate_q_ = take("context.choice.q", choosing * HD);
    gate_k_ = take("context.choice.k", choosing * GD);
    means_ = take("context.means", local * parts * GD);
    all_means_ = take("context.means of all", blocks * parts * GD);
    gate_table_ = table("context.choice.blocks", 2 * choosing + 3 * blocks + 8);
    gate_chosen_ = table("context.choice", choosing * H() * K());
    mean_rows_ = table("context.rows of means", blocks * parts);
    q_ = take("context.q", tokens * HD);
    out_ = take("context.out", tokens * HD);
    k_ = take("context.k", tokens * GD);
    v_ = take("context.v", tokens * GD);
    lse_ = arena.template take<A>("context.lse", tokens * H());
    part_ = take("context.slots", slots * D());
    part_lse_ = arena.template take<A>("context.lse of slots", slots);
    sent_ = take("context.sent", guests * D());
    got_ = take("context.received", guests * D());
    // of the keys, and of the queries after them
    const size_t pieces = tokens / config_.block_size + 3 + (full_tokens() ? blocks : 2 * local);
    table_ = table("context.blocks", 2 * tokens + 2 * pieces + 8);
    chosen_ = table("context.chosen", tokens * H());
    list_ = table("context.lists", tokens * H());
    list_start_ = table("context.list starts", H() * (pieces + 1));
    from_ = table("context.from", guests);
    slot_ = table("context.slot", guests);
    to_ = table("context.to", guests);
    own_slot_ = table("context.own slot", (size_t)H() * most_rows_);
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
    const int tokens = (int)most_extended_, choosing = most_rows_ + most_blocks_ * parts_of(config_.gate);
    const Direction direction = training_ ? Direction::backward : Direction::forward;
    const AttentionShape one = one_slot();
    const GateShape gate = config_.attention_shape(0).gate;
    size_t most = std::max({need.gate(choosing, most_blocks_, sizes, gate),
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
    comm_.start_exchange(ctx, m.send, m.receive);
    comm_.finish(ctx);
}

template <class E>
std::vector<acc_t<E>> ContextAttention<E>::exchange_numbers(std::vector<A> data, const Counts& send,
                                                            const Counts& receive, size_t width) {
    std::vector<A> got(std::accumulate(receive.begin(), receive.end(), (size_t)0) * width);
    const Messages m = messages(data.data(), send, got.data(), receive, width * sizeof(A));
    if (m.own.count) { std::memcpy(m.own_copy.data, m.own.data, m.own.count); }
    comm_.exchange(m.send, m.receive);
    return got;
}

// ---- the choice

/* One token for each part of each block, whose key is the mean, makes the gate of one rank choose among the
   blocks of all ranks. These tokens come after the queries, and are in the last block of the queries. */
template <class E>
void ContextAttention<E>::choose(const Ctx& ctx, const Ops<E>& op, int layer, const E* q, const E* k) {
    if (config_.layers[layer].attention != AttentionKind::moba) { return; }
    const int M = rows(), parts = parts_of(config_.gate), N = whole_.level[0].num_blocks,
              tokens = M + N * parts;
    const size_t HD = (size_t)H() * D(), GD = (size_t)G() * D();
    GateShape gate = config_.attention_shape(layer).gate;

    // means of the own blocks, to all
    const Sequences own =
        extended({.send = {}, .receive = {}, .from = {}, .slot = {}, .to = {}, .chosen = {}, .tokens = M});
    memory_->to_device(ctx, table_, host_table_.data(), host_table_.size() * sizeof(int));
    op.block_means(ctx, means_, k, rebase(own, host_table_.data(), table_), gate);
    std::vector<Transport::Bytes> send(comm_.size()), receive(comm_.size());
    std::vector<int> place;  // the row of each received mean
    E* got = all_means_;
    for (int r = 0; r < ranks_; r++) {
        const size_t bytes = dealt_.blocks[r].size() * parts * GD * sizeof(E);
        send[first_rank_ + r] = {means_, dealt_.blocks[rank_].size() * parts * GD * sizeof(E)};
        receive[first_rank_ + r] = {got, bytes};
        if (r == rank_) { memory_->copy(ctx, got, means_, bytes); }
        got += bytes / sizeof(E);
        for (int n : dealt_.blocks[r]) {
            for (int i = 0; i < parts; i++) { place.push_back(M + n * parts + i); }
        }
    }
    comm_.start_exchange(ctx, send, receive);
    comm_.finish(ctx);
    memory_->to_device(ctx, mean_rows_, place.data(), place.size() * sizeof(int));
    op.put_rows(ctx, gate_k_, all_means_, mean_rows_, {N * parts, tokens, (int)GD});
    memory_->copy(ctx, gate_q_, q, M * HD * sizeof(E));

    // own (tokens), first (N), start (N + 1)
    const BlockTable& blocks = whole_.level[0];
    std::vector<int> table(tokens), position(tokens);
    for (int m = 0; m < M; m++) { table[m] = blocks.own[dealt_.tokens[m]]; }
    std::fill(table.begin() + M, table.end(), M > 0 ? table[M - 1] : 0);
    table.insert(table.end(), blocks.first, blocks.first + N);
    for (int n = 0; n <= N; n++) { table.push_back(M + n * parts); }
    table.insert(table.end(), {0, tokens});
    std::iota(position.begin(), position.end(), 0);
    table.insert(table.end(), position.begin(), position.end());
    memory_->to_device(ctx, gate_table_, table.data(), table.size() * sizeof(int));
    Sequences seqs{
        tokens, 1, tokens, {parts, 1}, gate_table_ + tokens + 2 * N + 1, gate_table_ + tokens + 2 * N + 3,
        {}};
    seqs.level[0] = {N, gate_table_ + tokens + N, gate_table_ + tokens, gate_table_, parts};
    op.gate_forward(ctx, {gate_chosen_, nullptr, nullptr}, gate_q_, gate_k_, seqs, gate);
    std::vector<int> chosen((size_t)H() * tokens * K());
    memory_->to_host(ctx, chosen.data(), gate_chosen_, chosen.size() * sizeof(int));
    plans_[layer] = make_plan(chosen, tokens);
}

/* chosen (H, stride, K): the blocks of each query, ascending, its own one last; of `stride` queries the first
   ones are those of this rank. */
template <class E>
typename ContextAttention<E>::Plan ContextAttention<E>::make_plan(const std::vector<int>& chosen,
                                                                  int stride) {
    const int M = rows();
    Plan p;
    p.out.resize(ranks_), p.in.resize(ranks_);
    p.used.resize((size_t)H() * M);
    std::vector<std::vector<int>> meta(ranks_);  // head, place of the block
    p.counts.assign((size_t)ranks_ * ranks_ * H(), 0);
    int* mine = p.counts.data() + (size_t)rank_ * ranks_ * H();
    for (int h = 0; h < H(); h++) {
        for (int t = 0; t < M; t++) {
            const int* block = chosen.data() + ((size_t)h * stride + t) * K();
            int used = 0;
            while (used < K() && block[used] >= 0) { used++; }
            p.used[(size_t)h * M + t] = used;
            for (int j = 0; j + 1 < used; j++) {  // the last one is its own
                const int owner = dealt_.owner[block[j]];
                p.out[owner].push_back({h, t, j});
                meta[owner].insert(meta[owner].end(), {h, dealt_.place[block[j]]});
                mine[owner * H() + h]++;
            }
        }
    }
    std::vector<Transport::Bytes> parts(comm_.size());
    const size_t of_rank = (size_t)ranks_ * H();
    for (int r = 0; r < ranks_; r++) {
        parts[first_rank_ + r] = {p.counts.data() + r * of_rank, of_rank * sizeof(int)};
    }
    std::vector<Transport::Bytes> same(comm_.size());
    for (int r = 0; r < ranks_; r++) { same[first_rank_ + r] = parts[comm_.rank()]; }
    comm_.exchange(same, parts);
    std::vector<std::vector<int>> got(ranks_);
    std::vector<Transport::Bytes> send(comm_.size()), receive(comm_.size());
    for (int r = 0; r < ranks_; r++) {
        const int* count = p.counts.data() + ((size_t)r * ranks_ + rank_) * H();
        got[r].resize(2 * (size_t)std::accumulate(count, count + H(), 0));
        send[first_rank_ + r] = {meta[r].data(), meta[r].size() * sizeof(int)};
        receive[first_rank_ + r] = {got[r].data(), got[r].size() * sizeof(int)};
    }
    got[rank_] = meta[rank_];
    comm_.exchange(send, receive);
    for (int r = 0; r < ranks_; r++) {
        for (size_t i = 0; i < got[r].size(); i += 2) { p.in[r].push_back({got[r][i], got[r][i + 1]}); }
    }
    for (int to = 0; to < ranks_; to++) {
        for (int h = 0; h < H(); h++) {
            long guests = 0;
            for (int from = 0; from < ranks_; from++) {
                guests += p.counts[((size_t)from * ranks_ + to) * H() + h];
            }
            p.rounds = std::max(p.rounds, (int)ceil_div(guests, (long)most_guests_));
        }
    }
    return p;
}

// ---- a round

/* Guest i of a head, counted over the ranks in their order, comes in round i / most_guests_, as row
   i % most_guests_ after the own tokens. Both sides can tell that. */
template <class E>
typename ContextAttention<E>::Round ContextAttention<E>::round(const Plan& p, int number) const {
    const int M = rows();
    const auto before = [&](int from, int to, int h) {  // guests of a head from ranks before this one
        int n = 0;
        for (int r = 0; r < from; r++) { n += p.counts[((size_t)r * ranks_ + to) * H() + h]; }
        return n;
    };
    Round x{.send = std::vector<size_t>(ranks_),
            .receive = std::vector<size_t>(ranks_),
            .from = {},
            .slot = {},
            .to = {},
            .chosen = {},
            .tokens = M};
    std::vector<int> at(H());
    for (int r = 0; r < ranks_; r++) {
        for (int h = 0; h < H(); h++) { at[h] = before(rank_, r, h); }
        for (const Query& q : p.out[r]) {
            if (at[q.h]++ / most_guests_ != number) { continue; }
            x.from.push_back(q.t * H() + q.h);
            x.slot.push_back(((size_t)q.h * M + q.t) * K() + q.slot);
            x.send[r]++;
        }
    }
    struct Placed {
        int h, row, place;
    };
    std::vector<Placed> guests;
    for (int r = 0; r < ranks_; r++) {
        for (int h = 0; h < H(); h++) { at[h] = before(r, rank_, h); }
        for (const Guest& g : p.in[r]) {
            const int i = at[g.h]++;
            if (i / most_guests_ != number) { continue; }
            guests.push_back({g.h, M + i % most_guests_, g.place});
            x.to.push_back(guests.back().row * H() + g.h);
            x.receive[r]++;
            x.tokens = std::max(x.tokens, guests.back().row + 1);
        }
    }
    x.chosen.assign((size_t)H() * x.tokens, -1);  // rows that a head does not need
    int place = 0, left = 0;                      // own tokens choose their own block
    const BlockTable& blocks = whole_.level[0];
    for (int t = 0; t < M; t++) {
        if (left == 0) {
            const int n = dealt_.blocks[rank_][place++];
            left = blocks.start[n + 1] - blocks.start[n];
        }
        left--;
        for (int h = 0; h < H(); h++) { x.chosen[(size_t)h * x.tokens + t] = place - 1; }
    }
    for (const Placed& g : guests) { x.chosen[(size_t)g.h * x.tokens + g.row] = g.place; }
    return x;
}

/* The own tokens in their blocks, then the guests, in blocks that nobody chooses: one sequence. */
template <class E>
Sequences ContextAttention<E>::extended(const Round& x) {
    const int M = rows(), S = config_.block_size, tokens = x.tokens;
    std::vector<int> start, own(tokens);
    const BlockTable& blocks = whole_.level[0];
    int t = 0;
    for (int n : dealt_.blocks[rank_]) {
        start.push_back(t);
        for (int i = blocks.start[n]; i < blocks.start[n + 1]; i++) { own[t++] = (int)start.size() - 1; }
    }
    for (; t < tokens; t++) {
        if ((t - M) % S == 0) { start.push_back(t); }
        own[t] = (int)start.size() - 1;
    }
    const int N = (int)start.size();
    std::vector<int>& table = host_table_;
    table = {0, tokens};
    for (int i = 0; i < tokens; i++) { table.push_back(i); }
    table.insert(table.end(), start.begin(), start.end());
    table.push_back(tokens);
    table.insert(table.end(), N, 0);  // the first block of the sequence
    table.insert(table.end(), own.begin(), own.end());
    const int* at = table.data() + 2 + tokens;
    Sequences s{tokens, 1, tokens, {S, 1}, table.data(), table.data() + 2, {}};
    s.level[0] = {N, at, at + N + 1, at + 2 * N + 1, S};
    return s;
}

template <class E>
Routing ContextAttention<E>::routing(const Ctx& ctx, const Ops<E>& op, const Round& x,
                                     const Sequences& seqs) {
    memory_->to_device(ctx, chosen_, x.chosen.data(), x.chosen.size() * sizeof(int));
    const Routing r{chosen_, list_start_, list_};
    op.gate_lists(ctx, r, seqs, one_slot().gate);
    return r;
}

// ---- passes

template <class E>
void ContextAttention<E>::forward(const Ctx& ctx, const Ops<E>& op, int layer, E* out, A* lse, const E* q,
                                  const E* k, const E* v) {
    if (config_.layers[layer].attention == AttentionKind::full) {
        return full_forward(ctx, op, out, lse, q, k, v);
    }
    if (config_.layers[layer].attention == AttentionKind::window) {
        return window_forward(ctx, op, layer, out, lse, q, k, v);
    }
    const Plan& p = plans_[layer];
    const int M = rows(), rows_q = M * H();
    const size_t HD = (size_t)H() * D(), GD = (size_t)G() * D(), slots = (size_t)rows_q * K();
    memory_->copy(ctx, q_, q, M * HD * sizeof(E));
    memory_->copy(ctx, k_, k, M * GD * sizeof(E));
    memory_->copy(ctx, v_, v, M * GD * sizeof(E));
    std::vector<A> part_lse(slots);
    for (int number = 0; number < p.rounds; number++) {
        const Round x = round(p, number);
        const int sent = (int)x.from.size(), got = (int)x.to.size();
        upload(ctx, from_, x.from), upload(ctx, slot_, x.slot), upload(ctx, to_, x.to);
        op.gather_rows(ctx, sent_, q, from_, {sent, rows_q, D()});
        exchange(ctx, sent_, x.send, got_, x.receive, D());
        op.put_rows(ctx, q_, got_, to_, {got, x.tokens * H(), D()});
        const Sequences host = extended(x);
        memory_->to_device(ctx, table_, host_table_.data(), host_table_.size() * sizeof(int));
        const Sequences seqs = rebase(host, host_table_.data(), table_);
        op.attention_forward(ctx, out_, lse_, q_, k_, v_, routing(ctx, op, x, seqs), seqs, one_slot());

        // results go back
        op.gather_rows(ctx, got_, out_, to_, {got, x.tokens * H(), D()});
        exchange(ctx, got_, x.receive, sent_, x.send, D());
        op.put_rows(ctx, part_, sent_, slot_, {sent, (int)slots, D()});
        std::vector<A> all((size_t)x.tokens * H()), back(got);
        memory_->to_host(ctx, all.data(), lse_, all.size() * sizeof(A));
        for (int i = 0; i < got; i++) { back[i] = all[(size_t)(x.to[i] % H()) * x.tokens + x.to[i] / H()]; }
        const std::vector<A> came = exchange_numbers(back, x.receive, x.send, 1);
        for (int i = 0; i < sent; i++) { part_lse[x.slot[i]] = came[i]; }
        if (number > 0) { continue; }
        std::vector<int> own;  // the slot of each query's own block
        for (int t = 0; t < M; t++) {
            for (int h = 0; h < H(); h++) {
                own.push_back((int)(((size_t)h * M + t) * K()) + p.used[(size_t)h * M + t] - 1);
                part_lse[own.back()] = all[(size_t)h * x.tokens + t];
            }
        }
        upload(ctx, own_slot_, own);
        op.put_rows(ctx, part_, out_, own_slot_, {rows_q, (int)slots, D()});
    }
    memory_->to_device(ctx, part_lse_, part_lse.data(), slots * sizeof(A));
    upload(ctx, used_, p.used);
    op.merge_slots(ctx, out, lse, part_, part_lse_, used_, {M, H(), K(), D()});
}

template <class E>
void ContextAttention<E>::backward(const Ctx& ctx, const Ops<E>& op, int layer, E* dq, E* dk, E* dv,
                                   const E* dout, const A* delta, const E* q, const E* k, const E* v,
                                   const A* lse) {
    if (config_.layers[layer].attention == AttentionKind::full) {
        return full_backward(ctx, op, dq, dk, dv, dout, delta, q, k, v, lse);
    }
    if (config_.layers[layer].attention == AttentionKind::window) {
        return window_backward(ctx, op, layer, dq, dk, dv, dout, delta, q, k, v, lse);
    }
    const Plan& p = plans_[layer];
    const int M = rows(), rows_q = M * H();
    const size_t HD = (size_t)H() * D(), GD = (size_t)G() * D(), slots = (size_t)rows_q * K();
    memory_->copy(ctx, q_, q, M * HD * sizeof(E));
    memory_->copy(ctx, k_, k, M * GD * sizeof(E));
    memory_->copy(ctx, v_, v, M * GD * sizeof(E));
    memory_->copy(ctx, dout_, dout, M * HD * sizeof(E));
    std::vector<A> own_lse((size_t)rows_q), own_delta((size_t)rows_q);  // (H, M)
    memory_->to_host(ctx, own_lse.data(), lse, own_lse.size() * sizeof(A));
    memory_->to_host(ctx, own_delta.data(), delta, own_delta.size() * sizeof(A));
    for (int number = 0; number < p.rounds; number++) {
        const Round x = round(p, number);
        const int sent = (int)x.from.size(), got = (int)x.to.size();
        upload(ctx, from_, x.from), upload(ctx, slot_, x.slot), upload(ctx, to_, x.to);
        for (const auto& [from, to] : {std::pair{q, q_}, {dout, dout_}}) {
            op.gather_rows(ctx, sent_, from, from_, {sent, rows_q, D()});
            exchange(ctx, sent_, x.send, got_, x.receive, D());
            op.put_rows(ctx, to, got_, to_, {got, x.tokens * H(), D()});
        }
        // In further rounds the own queries have been computed: with dout = 0 they add nothing.
        if (number == 1) { memory_->zero(ctx, dout_, M * HD * sizeof(E)); }
        std::vector<A> numbers(2 * (size_t)sent);  // lse, delta
        for (int i = 0; i < sent; i++) {
            const size_t at = (size_t)(x.from[i] % H()) * M + x.from[i] / H();
            numbers[2 * i] = own_lse[at], numbers[2 * i + 1] = own_delta[at];
        }
        const std::vector<A> came = exchange_numbers(numbers, x.send, x.receive, 2);
        std::vector<A> all_lse((size_t)x.tokens * H()), all_delta(all_lse.size());
        for (int h = 0; h < H(); h++) {
            std::copy_n(own_lse.data() + (size_t)h * M, M, all_lse.data() + (size_t)h * x.tokens);
            if (number == 0) {
                std::copy_n(own_delta.data() + (size_t)h * M, M, all_delta.data() + (size_t)h * x.tokens);
            }
        }
        for (int i = 0; i < got; i++) {
            const size_t at = (size_t)(x.to[i] % H()) * x.tokens + x.to[i] / H();
            all_lse[at] = came[2 * i], all_delta[at] = came[2 * i + 1];
        }
        memory_->to_device(ctx, lse_, all_lse.data(), all_lse.size() * sizeof(A));
        memory_->to_device(ctx, delta_, all_delta.data(), all_delta.size() * sizeof(A));
        const Sequences host = extended(x);
        memory_->to_device(ctx, table_, host_table_.data(), host_table_.size() * sizeof(int));
        const Sequences seqs = rebase(host, host_table_.data(), table_);
        op.attention_backward(ctx, out_, dk_, dv_, dout_, delta_, q_, k_, v_, lse_, routing(ctx, op, x, seqs),
                              seqs, one_slot());
        const DropoutShape none{M * GD, 0, 0, DropoutSite::attention};
        for (const auto& [sum, more] : {std::pair{dk, dk_}, {dv, dv_}}) {
            if (number == 0) {
                memory_->copy(ctx, sum, more, M * GD * sizeof(E));
            } else {
                op.residual_forward(ctx, sum, sum, more, nullptr, none);
            }
        }
        op.gather_rows(ctx, got_, out_, to_, {got, x.tokens * H(), D()});
        exchange(ctx, got_, x.receive, sent_, x.send, D());
        op.put_rows(ctx, part_, sent_, slot_, {sent, (int)slots, D()});
        if (number > 0) { continue; }
        std::vector<int> own;
        for (int t = 0; t < M; t++) {
            for (int h = 0; h < H(); h++) {
                own.push_back((int)(((size_t)h * M + t) * K()) + p.used[(size_t)h * M + t] - 1);
            }
        }
        upload(ctx, own_slot_, own);
        op.put_rows(ctx, part_, out_, own_slot_, {rows_q, (int)slots, D()});
    }
    upload(ctx, used_, p.used);
    op.sum_slots(ctx, dq, part_, used_, {M, H(), K(), D()});
}

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
