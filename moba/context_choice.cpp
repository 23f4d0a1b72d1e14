/* The choice of moba layers of ContextAttention, and who sends which queries to whom. */
#include "moba/context_attention.h"
#include "moba/core/parallel.h"
#include <algorithm>
#include <numeric>

namespace moba {

/* One token for each part of each block, whose key is the mean, makes the gate of one rank choose among the
   blocks of all ranks. These tokens come after the queries, and choose nothing themselves. */
template <class E>
void ContextAttention<E>::choose(const Ctx& ctx, const Ops<E>& op, int layer, const E* q, const E* k) {
    if (config_.layers[layer].attention != AttentionKind::moba) { return; }
    const int M = rows(), parts = parts_of(config_.gate), N = whole_.level[0].num_blocks,
              tokens = M + N * parts;
    const size_t GD = (size_t)G() * D();
    const GateShape gate = config_.attention_shape(layer).gate;

    op.block_means(ctx, means_, k, extended(ctx, M), gate);
    Counts counts;           // means
    std::vector<int> place;  // the row of each mean, in the order in which they come
    for (const std::vector<int>& of_rank : dealt_.blocks) {
        counts.push_back(of_rank.size() * parts);
        for (int n : of_rank) {
            for (int i = 0; i < parts; i++) { place.push_back(M + n * parts + i); }
        }
    }
    gather(ctx, means_, all_means_, counts, GD);
    upload(ctx, mean_rows_, place);
    op.put_rows(ctx, gate_k_, all_means_, mean_rows_, {N * parts, tokens, (int)GD});

    // own (M), first (N), start (N + 1)
    const BlockTable& blocks = whole_.level[0];
    std::vector<int> table(M), position(M);
    for (int m = 0; m < M; m++) { table[m] = blocks.own[dealt_.tokens[m]]; }
    table.insert(table.end(), blocks.first, blocks.first + N);
    for (int n = 0; n <= N; n++) { table.push_back(M + n * parts); }
    table.insert(table.end(), {0, M});
    std::iota(position.begin(), position.end(), 0);
    table.insert(table.end(), position.begin(), position.end());
    upload(ctx, gate_table_, table);
    const int* const first = gate_table_ + M;
    Sequences seqs{M, 1, M, {parts, 1}, first + 2 * N + 1, first + 2 * N + 3, {}};
    seqs.level[0] = {N, first + N, first, gate_table_, parts};
    op.gate_forward(ctx, {gate_chosen_, nullptr, nullptr}, q, gate_k_, seqs, gate);
    std::vector<int> chosen((size_t)H() * M * K());
    memory_->to_host(ctx, chosen.data(), gate_chosen_, chosen.size() * sizeof(int));
    plans_[layer] = make_plan(chosen);
}

/* chosen (H, M, K): the blocks of each query, ascending, its own one last. */
template <class E>
typename ContextAttention<E>::Plan ContextAttention<E>::make_plan(const std::vector<int>& chosen) {
    const int M = rows();
    Plan p;
    p.used.resize((size_t)H() * M);
    p.counts.assign((size_t)ranks_ * ranks_ * H(), 0);
    // f(owner, block, row of part) for each block that queries of head h chose, but for their own ones
    const auto each_sent = [&](int h, auto f) {
        for (int t = 0; t < M; t++) {
            const int* block = chosen.data() + ((size_t)h * M + t) * K();
            for (int j = 0; j + 1 < K() && block[j + 1] >= 0; j++) {  // the last one is its own
                f(dealt_.owner[block[j]], block[j], (h * M + t) * K() + j);
            }
        }
    };
    int* mine = p.counts.data() + (size_t)rank_ * ranks_ * H();
    parallel_for(H(), [&](size_t h, int) {
        for (int t = 0; t < M; t++) {
            const int* block = chosen.data() + (h * M + t) * K();
            p.used[h * M + t] = (int)(std::find(block, block + K(), -1) - block);
        }
        each_sent((int)h, [&](int owner, int, int) { mine[owner * H() + h]++; });
    });
    std::vector<size_t> end((size_t)ranks_ * H());  // of each rank and head, while they are filled
    std::exclusive_scan(mine, mine + end.size(), end.begin(), (size_t)0);
    p.slot.resize(end.back() + mine[end.size() - 1]);
    std::vector<int> place(p.slot.size());
    parallel_for(H(), [&](size_t h, int) {
        each_sent((int)h, [&](int owner, int block, int slot) {
            const size_t at = end[owner * H() + h]++;
            p.slot[at] = slot, place[at] = dealt_.place[block];
        });
    });

    std::vector<Transport::Bytes> same(comm_.size()), all(comm_.size());
    const size_t of_rank = (size_t)ranks_ * H();
    for (int r = 0; r < ranks_; r++) {
        all[first_rank_ + r] = {p.counts.data() + r * of_rank, of_rank * sizeof(int)};
        same[first_rank_ + r] = {mine, of_rank * sizeof(int)};
    }
    bytes_sent_ += comm_.bytes_to_others(same);
    comm_.exchange(same, all);
    Counts send(ranks_), receive(ranks_);
    for (int r = 0; r < ranks_; r++) {
        for (int h = 0; h < H(); h++) {
            send[r] += count(p, rank_, r, h), receive[r] += count(p, r, rank_, h);
        }
    }
    p.place.resize(std::accumulate(receive.begin(), receive.end(), (size_t)0));
    const Messages m = messages(place.data(), send, p.place.data(), receive, sizeof(int));
    if (m.own.count) { std::memcpy(m.own_copy.data, m.own.data, m.own.count); }
    bytes_sent_ += comm_.bytes_to_others(m.send);
    comm_.exchange(m.send, m.receive);
    for (int to = 0; to < ranks_; to++) {
        for (int h = 0; h < H(); h++) {
            long guests = 0;
            for (int from = 0; from < ranks_; from++) { guests += count(p, from, to, h); }
            p.rounds = std::max(p.rounds, (int)ceil_div(guests, (long)most_guests_));
        }
    }
    return p;
}

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
