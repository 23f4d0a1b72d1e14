/* MoBA layers of ContextAttention: queries go to the blocks they chose, in rounds, and results come back. */
#include "moba/context_attention.h"
#include "moba/core/parallel.h"
#include <algorithm>
#include <numeric>

namespace moba {

/* Guest i of a head, counted over the ranks in their order, comes in round i / most_guests_, as row
   i % most_guests_ after the own tokens. Both sides can tell that. By rank and head. */
template <class E>
std::vector<typename ContextAttention<E>::Part> ContextAttention<E>::parts(const Plan& p, int number,
                                                                           bool out) const {
    const long first_guest = (long)number * most_guests_;
    std::vector<Part> parts;
    size_t begin = 0, at = 0;
    for (int r = 0; r < ranks_; r++) {
        for (int h = 0; h < H(); h++) {
            const int from = out ? rank_ : r, to = out ? r : rank_;
            const long queries = count(p, from, to, h);
            long before = 0;  // guests of this head from earlier ranks
            for (int i = 0; i < from; i++) { before += count(p, i, to, h); }
            const long first = std::clamp(first_guest - before, 0l, queries),
                       last = std::clamp(first_guest + most_guests_ - before, 0l, queries);
            const int guest = last > first ? (int)(before + first - first_guest) : 0;
            parts.push_back({h, begin + first, begin + last, at, guest});
            begin += queries, at += last - first;
        }
    }
    return parts;
}

template <class E>
typename ContextAttention<E>::Round ContextAttention<E>::round(const Plan& p, int number) const {
    const int M = rows();
    const std::vector<Part> out = parts(p, number, true), in = parts(p, number, false);
    Round x{.number = number,
            .send = Counts(ranks_),
            .receive = Counts(ranks_),
            .from = {},
            .from_lse = {},
            .slot = {},
            .to = {},
            .to_lse = {},
            .chosen = {},
            .tokens = M};
    for (size_t i = 0; i < out.size(); i++) {
        x.send[i / H()] += out[i].end - out[i].begin, x.receive[i / H()] += in[i].end - in[i].begin;
        if (in[i].end > in[i].begin) {
            x.tokens = std::max(x.tokens, M + in[i].guest + (int)(in[i].end - in[i].begin));
        }
    }
    const size_t sent = std::accumulate(x.send.begin(), x.send.end(), (size_t)0),
                 got = std::accumulate(x.receive.begin(), x.receive.end(), (size_t)0);
    x.from.resize(sent), x.from_lse.resize(sent), x.slot.resize(sent), x.to.resize(got), x.to_lse.resize(got);
    x.chosen.assign((size_t)H() * x.tokens, -1);  // rows that a head does not need
    choose_own_blocks(x.chosen, x.tokens);
    parallel_for(out.size(), [&](size_t n, int) {
        for (size_t i = out[n].begin, at = out[n].at; i < out[n].end; i++, at++) {
            const int query = p.slot[i] / K();  // h * M + t
            x.slot[at] = p.slot[i], x.from_lse[at] = query;
            x.from[at] = (query - out[n].h * M) * H() + out[n].h;
        }
        int row = M + in[n].guest;
        for (size_t i = in[n].begin, at = in[n].at; i < in[n].end; i++, at++, row++) {
            x.to[at] = row * H() + in[n].h, x.to_lse[at] = in[n].h * x.tokens + row;
            x.chosen[x.to_lse[at]] = p.place[i];
        }
    });
    return x;
}

template <class E>
void ContextAttention<E>::upload(const Ctx& ctx, const Round& x) {
    upload(ctx, from_, x.from), upload(ctx, from_lse_, x.from_lse), upload(ctx, slot_, x.slot);
    upload(ctx, to_, x.to), upload(ctx, to_lse_, x.to_lse);
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

// lse or delta of queries to where they attend. own (H, M), extended (H, tokens)
template <class E>
void ContextAttention<E>::send_numbers(const Ctx& ctx, const Ops<E>& op, const Round& x, A* extended,
                                       const A* own) {
    const int sent = (int)x.from.size(), got = (int)x.to.size();
    op.gather_rows(ctx, sent_, (const E*)own, from_lse_, {sent, rows() * H(), number_width});
    exchange(ctx, sent_, x.send, got_, x.receive, number_width);
    op.put_rows(ctx, (E*)extended, got_, to_lse_, {got, x.tokens * H(), number_width});
}

// The results of a round, out or dq, into the slots of their queries.
template <class E>
void ContextAttention<E>::results_to_slots(const Ctx& ctx, const Ops<E>& op, const Round& x) {
    const int sent = (int)x.from.size(), got = (int)x.to.size(), queries = rows() * H();
    op.gather_rows(ctx, got_, out_, to_, {got, x.tokens * H(), D()});
    exchange(ctx, got_, x.receive, sent_, x.send, D());
    op.put_rows(ctx, part_, sent_, slot_, {sent, queries * K(), D()});
    if (x.number == 0) { op.put_rows(ctx, part_, out_, own_slot_, {queries, queries * K(), D()}); }
}

// The slot of each query's own block, by token and head.
template <class E>
void ContextAttention<E>::upload_own_slots(const Ctx& ctx, const Plan& p) {
    const int M = rows();
    std::vector<int> slots((size_t)M * H());
    parallel_ranges(M, 1024, [&](size_t begin, size_t end) {
        for (size_t t = begin; t < end; t++) {
            for (int h = 0; h < H(); h++) {
                const int query = h * M + (int)t;
                slots[t * H() + h] = query * K() + p.used[query] - 1;
            }
        }
    });
    upload(ctx, own_slot_, slots);
}

// lse or delta of the own tokens; other rows are 0.
template <class E>
void ContextAttention<E>::own_numbers(const Ctx& ctx, A* extended, const A* own, int tokens) {
    const size_t M = rows();
    memory_->zero(ctx, extended, (size_t)H() * tokens * sizeof(A));
    for (int h = 0; own && h < H(); h++) {
        memory_->copy(ctx, extended + (size_t)h * tokens, own + h * M, M * sizeof(A));
    }
}

template <class E>
void ContextAttention<E>::moba_forward(const Ctx& ctx, const Ops<E>& op, const Plan& p, E* out, A* lse,
                                       const E* q, const E* k, const E* v) {
    const int M = rows(), queries = M * H();
    begin_extended(ctx, q, k, v);
    upload_own_slots(ctx, p);
    E* const part_lse = (E*)part_lse_;
    for (int number = 0; number < p.rounds; number++) {
        const Round x = round(p, number);
        const int sent = (int)x.from.size(), got = (int)x.to.size();
        upload(ctx, x);
        send_queries(ctx, op, x, q_, q);
        const Sequences seqs = extended(ctx, x.tokens);
        op.attention_forward(ctx, out_, lse_, q_, k_, v_, routing(ctx, op, x.chosen, seqs), seqs, one_slot());
        results_to_slots(ctx, op, x);

        const int of_lse = x.tokens * H();
        op.gather_rows(ctx, got_, (const E*)lse_, to_lse_, {got, of_lse, number_width});
        exchange(ctx, got_, x.receive, sent_, x.send, number_width);
        op.put_rows(ctx, part_lse, sent_, slot_, {sent, queries * K(), number_width});
        if (number > 0) { continue; }
        std::vector<int> own((size_t)queries);
        for (int i = 0; i < queries; i++) { own[i] = i % H() * x.tokens + i / H(); }
        upload(ctx, own_lse_, own);
        op.gather_rows(ctx, sent_, (const E*)lse_, own_lse_, {queries, of_lse, number_width});
        op.put_rows(ctx, part_lse, sent_, own_slot_, {queries, queries * K(), number_width});
    }
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
    upload_own_slots(ctx, p);
    memory_->copy(ctx, dout_, dout, M * HD * sizeof(E));
    for (int number = 0; number < p.rounds; number++) {
        const Round x = round(p, number);
        upload(ctx, x);
        send_queries(ctx, op, x, q_, q);
        send_queries(ctx, op, x, dout_, dout);
        // In further rounds the own queries have been computed: with dout = 0 and delta = 0 they add nothing.
        if (number == 1) { memory_->zero(ctx, dout_, M * HD * sizeof(E)); }
        own_numbers(ctx, lse_, lse, x.tokens);
        own_numbers(ctx, delta_, number == 0 ? delta : nullptr, x.tokens);
        send_numbers(ctx, op, x, lse_, lse);
        send_numbers(ctx, op, x, delta_, delta);
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
        results_to_slots(ctx, op, x);
    }
    upload(ctx, used_, p.used);
    op.sum_slots(ctx, dq, part_, used_, {M, H(), K(), D()});
}

template class ContextAttention<double>;
template class ContextAttention<float>;
template class ContextAttention<bf16>;

}  // namespace moba
