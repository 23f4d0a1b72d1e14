/* Full layers of ContextAttention: all keys and values come to every rank. Its queries follow the keys as
   tokens of a longer sequence, and each attends one piece of its past in a round: whole chunks of blocks,
   then the blocks between the last chunk and its own block. Results are merged after each round. */
#include "moba/context_attention.h"
#include <algorithm>
#include <numeric>

namespace moba {

/* The pieces of the past, and who attends them. */
template <class E>
typename ContextAttention<E>::FullPlan ContextAttention<E>::make_full_plan() const {
    const BlockTable& blocks = whole_.level[0];
    FullPlan p;
    std::vector<int> chunk_of(blocks.num_blocks);  // of the first block of a chunk
    for (int n = 0; n < blocks.num_blocks; n++) {
        if ((n - blocks.first[n]) % chunk_blocks == 0) {
            chunk_of[n] = (int)p.chunks.size();
            p.chunks.push_back(blocks.start[n]);
        }
    }
    for (size_t t = 0; t < dealt_.tokens.size(); t++) {
        const int own = blocks.own[dealt_.tokens[t]], first = blocks.first[own],
                  whole = (own - first) / chunk_blocks;
        const auto attend = [&](std::vector<Piece>& pieces, int i, int piece) {
            if (i == (int)pieces.size()) { pieces.emplace_back(); }
            pieces[i].tokens.push_back((int)t), pieces[i].chosen.push_back(piece);
        };
        for (int i = 0; i < whole; i++) { attend(p.by_chunk, i, chunk_of[first + i * chunk_blocks]); }
        for (int n = first + whole * chunk_blocks; n < own; n++) {
            attend(p.by_block, n - first - whole * chunk_blocks, n);
        }
    }
    return p;
}

template <class E>
size_t ContextAttention<E>::full_tokens() const {
    return config_.has(AttentionKind::full) ? (size_t)whole_tokens_ + most_rows_ : 0;
}

// The tokens of all ranks, rank by rank, in the order in which they come.
template <class E>
std::vector<std::vector<int>> ContextAttention<E>::tokens_by_rank() const {
    std::vector<std::vector<int>> tokens(ranks_);
    for (int t = 0; t < whole_.num_tokens; t++) { tokens[dealt_.owner_of_token[t]].push_back(t); }
    return tokens;
}

template <class E>
void ContextAttention<E>::gather_keys(const Ctx& ctx, const Ops<E>& op, const E* k, const E* v) {
    const int T = whole_.num_tokens, GD = G() * D();
    Counts counts;
    std::vector<int> place;
    for (const auto& of_rank : tokens_by_rank()) {
        counts.push_back(of_rank.size());
        place.insert(place.end(), of_rank.begin(), of_rank.end());
    }
    upload(ctx, to_, place);
    for (const auto& [from, to] : {std::pair{k, k_}, {v, v_}}) {
        gather(ctx, from, got_, counts, GD);
        op.put_rows(ctx, to, got_, to_, {T, T, GD});
    }
}

/* Calls f(piece, sequences, routing) for each round. The keys lie in pieces, and the queries of the round
   come after them, in pieces that nobody chooses; each query has chosen one piece. */
template <class E>
template <class F>
void ContextAttention<E>::each_piece(const Ctx& ctx, const Ops<E>& op, const FullPlan& p, F f) {
    const int T = whole_.num_tokens;
    const BlockTable& blocks = whole_.level[0];
    const auto all = [&](const std::vector<Piece>& pieces, const std::vector<int>& starts, int size) {
        for (const Piece& piece : pieces) {
            const int tokens = T + (int)piece.tokens.size();
            std::vector<int> start = starts, chosen((size_t)H() * tokens, -1);
            for (int t = T; t < tokens; t += size) { start.push_back(t); }
            for (int h = 0; h < H(); h++) {
                std::copy(piece.chosen.begin(), piece.chosen.end(), chosen.begin() + (size_t)h * tokens + T);
            }
            const Sequences seqs = one_sequence(ctx, start, tokens, size);
            f(piece, seqs, routing(ctx, op, chosen, seqs));
        }
    };
    all(p.by_chunk, p.chunks, chunk_blocks * config_.block_size);
    all(p.by_block, {blocks.start, blocks.start + blocks.num_blocks}, config_.block_size);
}

// The sequence of the own tokens, of which each has chosen its own block.
template <class E>
Sequences ContextAttention<E>::own_blocks(const Ctx& ctx, const Ops<E>& op, Routing* r) {
    std::vector<int> chosen((size_t)H() * rows());
    choose_own_blocks(chosen, rows());
    const Sequences seqs = extended(ctx, rows());
    *r = routing(ctx, op, chosen, seqs);
    return seqs;
}

template <class E>
void ContextAttention<E>::full_forward(const Ctx& ctx, const Ops<E>& op, E* out, A* lse, const E* q,
                                       const E* k, const E* v) {
    const int M = rows(), T = whole_.num_tokens, HD = H() * D(), queries = M * H();
    Routing r;
    const Sequences own = own_blocks(ctx, op, &r);
    op.attention_forward(ctx, out, lse, q, k, v, r, own, one_slot());
    gather_keys(ctx, op, k, v);
    const SlotsShape slots{M, H(), 2, D()};  // slot 0: the result so far
    std::vector<int> so_far;
    for (int t = 0; t < M; t++) {
        for (int h = 0; h < H(); h++) { so_far.push_back((h * M + t) * 2); }
    }
    std::vector<A> lse_so_far((size_t)queries), part_lse(2 * (size_t)queries);
    each_piece(ctx, op, make_full_plan(),
               [&](const Piece& piece, const Sequences& seqs, const Routing& lists) {
                   const int count = (int)piece.tokens.size();
                   upload(ctx, from_, piece.tokens);
                   op.gather_rows(ctx, q_ + (size_t)T * HD, q, from_, {count, M, HD});
                   op.attention_forward(ctx, out_, lse_, q_, k_, v_, lists, seqs, one_slot());
                   std::vector<A> all((size_t)H() * seqs.num_tokens);
                   memory_->to_host(ctx, all.data(), lse_, all.size() * sizeof(A));
                   memory_->to_host(ctx, lse_so_far.data(), lse, lse_so_far.size() * sizeof(A));
                   std::vector<int> place, used((size_t)queries, 1);
                   for (int i = 0; i < queries; i++) { part_lse[2 * i] = lse_so_far[i]; }
                   for (int i = 0; i < count; i++) {
                       for (int h = 0; h < H(); h++) {
                           const int query = h * M + piece.tokens[i];
                           place.push_back(2 * query + 1), used[query] = 2;
                           part_lse[2 * query + 1] = all[(size_t)h * seqs.num_tokens + T + i];
                       }
                   }
                   upload(ctx, own_slot_, so_far), upload(ctx, slot_, place), upload(ctx, used_, used);
                   memory_->to_device(ctx, part_lse_, part_lse.data(), part_lse.size() * sizeof(A));
                   op.put_rows(ctx, part_, out, own_slot_, {queries, 2 * queries, D()});
                   op.put_rows(ctx, part_, out_ + (size_t)T * HD, slot_, {count * H(), 2 * queries, D()});
                   op.merge_slots(ctx, out, lse, part_, part_lse_, used_, slots);
               });
}

template <class E>
void ContextAttention<E>::full_backward(const Ctx& ctx, const Ops<E>& op, E* dq, E* dk, E* dv, const E* dout,
                                        const A* delta, const E* q, const E* k, const E* v, const A* lse) {
    const int M = rows(), T = whole_.num_tokens, HD = H() * D(), GD = G() * D();
    Routing r;
    const Sequences own = own_blocks(ctx, op, &r);
    op.attention_backward(ctx, dq, dk, dv, dout, delta, q, k, v, lse, r, own, one_slot());
    gather_keys(ctx, op, k, v);
    memory_->zero(ctx, dk_all_, (size_t)T * GD * sizeof(E));
    memory_->zero(ctx, dv_all_, (size_t)T * GD * sizeof(E));
    std::vector<A> own_lse((size_t)H() * M), own_delta(own_lse.size());
    memory_->to_host(ctx, own_lse.data(), lse, own_lse.size() * sizeof(A));
    memory_->to_host(ctx, own_delta.data(), delta, own_delta.size() * sizeof(A));
    each_piece(ctx, op, make_full_plan(),
               [&](const Piece& piece, const Sequences& seqs, const Routing& lists) {
                   const int count = (int)piece.tokens.size();
                   std::vector<A> all_lse((size_t)H() * seqs.num_tokens), all_delta(all_lse.size());
                   for (int h = 0; h < H(); h++) {
                       for (int i = 0; i < count; i++) {
                           const size_t to = (size_t)h * seqs.num_tokens + T + i,
                                        from = (size_t)h * M + piece.tokens[i];
                           all_lse[to] = own_lse[from], all_delta[to] = own_delta[from];
                       }
                   }
                   memory_->to_device(ctx, lse_, all_lse.data(), all_lse.size() * sizeof(A));
                   memory_->to_device(ctx, delta_, all_delta.data(), all_delta.size() * sizeof(A));
                   upload(ctx, from_, piece.tokens);
                   op.gather_rows(ctx, q_ + (size_t)T * HD, q, from_, {count, M, HD});
                   op.gather_rows(ctx, dout_ + (size_t)T * HD, dout, from_, {count, M, HD});
                   // Kernels store nothing for a piece that no query attends.
                   memory_->zero(ctx, dk_, (size_t)T * GD * sizeof(E));
                   memory_->zero(ctx, dv_, (size_t)T * GD * sizeof(E));
                   op.attention_backward(ctx, out_, dk_, dv_, dout_, delta_, q_, k_, v_, lse_, lists, seqs,
                                         one_slot());
                   op.add_rows(ctx, dq, out_ + (size_t)T * HD, from_, {count, M, HD});
                   const DropoutShape none{(size_t)T * GD, 0, 0, DropoutSite::attention};
                   op.residual_forward(ctx, dk_all_, dk_all_, dk_, nullptr, none);
                   op.residual_forward(ctx, dv_all_, dv_all_, dv_, nullptr, none);
               });

    // The gradients of the keys go to their ranks, which add them in the order of the ranks.
    Counts send, receive(ranks_, (size_t)M);
    std::vector<int> place, every(M);
    for (const auto& of_rank : tokens_by_rank()) {
        send.push_back(of_rank.size());
        place.insert(place.end(), of_rank.begin(), of_rank.end());
    }
    std::iota(every.begin(), every.end(), 0);
    upload(ctx, to_, place), upload(ctx, from_, every);
    for (const auto& [sum, parts] : {std::pair{dk, dk_all_}, {dv, dv_all_}}) {
        op.gather_rows(ctx, sent_, parts, to_, {T, T, GD});
        exchange(ctx, sent_, send, got_, receive, GD);
        for (int r = 0; r < ranks_; r++) {
            op.add_rows(ctx, sum, got_ + (size_t)r * M * GD, from_, {M, M, GD});
        }
    }
}

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
