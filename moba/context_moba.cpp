/* MoBA layers of ContextAttention: queries go to the blocks they chose, in rounds, and results come back. */
#include "moba/context_attention.h"
#include <algorithm>

namespace moba {

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
    Round x{.number = number,
            .send = Counts(ranks_),
            .receive = Counts(ranks_),
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
    choose_own_blocks(x.chosen, x.tokens);
    for (const Placed& g : guests) { x.chosen[(size_t)g.h * x.tokens + g.row] = g.place; }
    return x;
}

/* q, k and v of the own tokens begin the extended tensors. */
template <class E>
void ContextAttention<E>::begin_extended(const Ctx& ctx, const E* q, const E* k, const E* v) {
    const size_t M = rows(), HD = (size_t)H() * D(), GD = (size_t)G() * D();
    memory_->copy(ctx, q_, q, M * HD * sizeof(E));
    memory_->copy(ctx, k_, k, M * GD * sizeof(E));
    memory_->copy(ctx, v_, v, M * GD * sizeof(E));
}

// Rows of queries to where they attend.
template <class E>
void ContextAttention<E>::send_queries(const Ctx& ctx, const Ops<E>& op, const Round& x, E* extended,
                                       const E* own) {
    const int sent = (int)x.from.size(), got = (int)x.to.size();
    op.gather_rows(ctx, sent_, own, from_, {sent, rows() * H(), D()});
    exchange(ctx, sent_, x.send, got_, x.receive, D());
    op.put_rows(ctx, extended, got_, to_, {got, x.tokens * H(), D()});
}

// The results of a round, out or dq, into the slots of their queries.
template <class E>
void ContextAttention<E>::results_to_slots(const Ctx& ctx, const Ops<E>& op, const Plan& p, const Round& x) {
    const int sent = (int)x.from.size(), got = (int)x.to.size(), queries = rows() * H();
    op.gather_rows(ctx, got_, out_, to_, {got, x.tokens * H(), D()});
    exchange(ctx, got_, x.receive, sent_, x.send, D());
    op.put_rows(ctx, part_, sent_, slot_, {sent, queries * K(), D()});
    if (x.number > 0) { return; }
    upload(ctx, own_slot_, own_slots(p));
    op.put_rows(ctx, part_, out_, own_slot_, {queries, queries * K(), D()});
}

// The slot of each query's own block, by token and head.
template <class E>
std::vector<int> ContextAttention<E>::own_slots(const Plan& p) const {
    std::vector<int> slots;
    for (int t = 0; t < rows(); t++) {
        for (int h = 0; h < H(); h++) {
            const int query = h * rows() + t;
            slots.push_back(query * K() + p.used[query] - 1);
        }
    }
    return slots;
}

template <class E>
void ContextAttention<E>::moba_forward(const Ctx& ctx, const Ops<E>& op, const Plan& p, E* out, A* lse,
                                       const E* q, const E* k, const E* v) {
    const int M = rows();
    begin_extended(ctx, q, k, v);
    std::vector<A> part_lse((size_t)M * H() * K());
    for (int number = 0; number < p.rounds; number++) {
        const Round x = round(p, number);
        upload(ctx, from_, x.from), upload(ctx, slot_, x.slot), upload(ctx, to_, x.to);
        send_queries(ctx, op, x, q_, q);
        const Sequences seqs = extended(ctx, x.tokens);
        op.attention_forward(ctx, out_, lse_, q_, k_, v_, routing(ctx, op, x.chosen, seqs), seqs, one_slot());
        results_to_slots(ctx, op, p, x);

        std::vector<A> all((size_t)x.tokens * H()), back;
        memory_->to_host(ctx, all.data(), lse_, all.size() * sizeof(A));
        for (int row : x.to) { back.push_back(all[(size_t)(row % H()) * x.tokens + row / H()]); }
        const std::vector<A> came = exchange_numbers(back, x.receive, x.send, 1);
        for (size_t i = 0; i < came.size(); i++) { part_lse[x.slot[i]] = came[i]; }
        if (number > 0) { continue; }
        const std::vector<int> own = own_slots(p);
        for (int i = 0; i < M * H(); i++) { part_lse[own[i]] = all[(size_t)(i % H()) * x.tokens + i / H()]; }
    }
    memory_->to_device(ctx, part_lse_, part_lse.data(), part_lse.size() * sizeof(A));
    upload(ctx, used_, p.used);
    op.merge_slots(ctx, out, lse, part_, part_lse_, used_, {M, H(), K(), D()});
}

template <class E>
void ContextAttention<E>::moba_backward(const Ctx& ctx, const Ops<E>& op, const Plan& p, E* dq, E* dk, E* dv,
                                        const E* dout, const A* delta, const E* q, const E* k, const E* v,
                                        const A* lse) {
    const int M = rows();
    const size_t HD = (size_t)H() * D(), GD = (size_t)G() * D();
    begin_extended(ctx, q, k, v);
    memory_->copy(ctx, dout_, dout, M * HD * sizeof(E));
    std::vector<A> own_lse((size_t)M * H()), own_delta(own_lse.size());  // (H, M)
    memory_->to_host(ctx, own_lse.data(), lse, own_lse.size() * sizeof(A));
    memory_->to_host(ctx, own_delta.data(), delta, own_delta.size() * sizeof(A));
    for (int number = 0; number < p.rounds; number++) {
        const Round x = round(p, number);
        const int sent = (int)x.from.size(), got = (int)x.to.size();
        upload(ctx, from_, x.from), upload(ctx, slot_, x.slot), upload(ctx, to_, x.to);
        send_queries(ctx, op, x, q_, q);
        send_queries(ctx, op, x, dout_, dout);
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
        const Sequences seqs = extended(ctx, x.tokens);
        op.attention_backward(ctx, out_, dk_, dv_, dout_, delta_, q_, k_, v_, lse_,
                              routing(ctx, op, x.chosen, seqs), seqs, one_slot());
        const DropoutShape none{M * GD, 0, 0, DropoutSite::attention};
        for (const auto& [sum, more] : {std::pair{dk, dk_}, {dv, dv_}}) {
            if (number == 0) {
                memory_->copy(ctx, sum, more, M * GD * sizeof(E));
            } else {
                op.residual_forward(ctx, sum, sum, more, nullptr, none);
            }
        }
        results_to_slots(ctx, op, p, x);
    }
    upload(ctx, used_, p.used);
    op.sum_slots(ctx, dq, part_, used_, {M, H(), K(), D()});
}

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
