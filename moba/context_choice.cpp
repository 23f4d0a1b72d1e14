/* The choice of moba layers of ContextAttention, and who sends which queries to whom. */
#include "moba/context_attention.h"
#include <algorithm>
#include <numeric>

namespace moba {

/* One token for each part of each block, whose key is the mean, makes the gate of one rank choose among the
   blocks of all ranks. These tokens come after the queries, and are in the last block of the queries. */
template <class E>
void ContextAttention<E>::choose(const Ctx& ctx, const Ops<E>& op, int layer, const E* q, const E* k) {
    if (config_.layers[layer].attention != AttentionKind::moba) { return; }
    const int M = rows(), parts = parts_of(config_.gate), N = whole_.level[0].num_blocks,
              tokens = M + N * parts;
    const size_t HD = (size_t)H() * D(), GD = (size_t)G() * D();
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
    upload(ctx, gate_table_, table);
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
    count_sent(same);
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
    count_sent(send);
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

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
