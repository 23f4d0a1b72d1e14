/* Attention over sequences whose blocks lie on several ranks (context.h). MoBA: queries travel, keys and
   values stay. Window: the keys and values before a block come (context_window.cpp). Full: all keys and
   values come (context_full.cpp).

   Choice   the means of all blocks are gathered, and each rank chooses for its own queries, as one rank would
   Queries  a query goes to each rank that has a block that it chose; there it attends this block, and the
            result and its lse come back into a slot of the query. Then its slots are merged. In the backward
            pass the query goes again, with dout, lse and delta; its share of dq comes back, and dk and dv are
            added where the keys are
   Kernels  those of one rank. What a rank computes for others is one more attention problem: its own tokens,
            then the queries that came, each of which chose one block; with K = 1 a result is that of one slot
   Bytes    for each query, head and chosen block of another rank: D + D (+ lse, and 4 bytes that say which
            block) forward, 3 D (+ lse, delta) backward, whatever the length of the sequence */
#pragma once
#include "moba/config.h"
#include "moba/context.h"
#include "moba/core/arena.h"
#include "moba/core/comm.h"
#include "moba/op_table.h"
#include <map>

namespace moba {

constexpr int chunk_blocks = 16;  // of a chunk of keys in a full layer

template <class E>
class ContextAttention {
  public:
    using A = acc_t<E>;
    /* max_tokens, max_seqs: of the whole micro-batch, which `ranks` neighbouring ranks share. most_guests:
       queries of others that a head attends at once, further ones follow in more rounds; 0: a quarter more
       than each rank would get if all got the same. */
    ContextAttention(const Config&, int max_tokens, int max_seqs, bool training, Device, Comm&, int ranks,
                     int most_guests = 0);
    void plan(Arena&);  // twice, as arena.h says
    size_t workspace_bytes(const WorkspaceBytes<E>&) const;
    int most_tokens() const { return most_rows_; }  // of a rank

    void set_batch(const Sequences& whole);  // in host memory
    const Dealt& dealt() const { return dealt_; }
    size_t sent() const { return bytes_sent_; }  // to the other ranks, so far

    // The choice of a moba layer; other layers: nothing.
    void choose(const Ctx&, const Ops<E>&, int layer, const E* q, const E* k);
    void forward(const Ctx&, const Ops<E>&, int layer, E* out, A* lse, const E* q, const E* k, const E* v);
    void backward(const Ctx&, const Ops<E>&, int layer, E* dq, E* dk, E* dv, const E* dout, const A* delta,
                  const E* q, const E* k, const E* v, const A* lse);

  private:
    using Counts = std::vector<size_t>;  // rows for each rank of the group
    struct Messages {
        std::vector<Transport::Bytes> send, receive;  // by rank
        Transport::Bytes own, own_copy;               // what this rank would send itself
    };
    Messages messages(void* data, const Counts& send, void* got, const Counts& receive,
                      size_t row_bytes) const;
    void exchange(const Ctx&, E* data, const Counts& send, E* got, const Counts& receive, size_t width);
    // lse or delta, of the type A, are copied as rows of elements E.
    static constexpr int number_width = sizeof(A) / sizeof(E);
    void gather(const Ctx&, const E* mine, E* all, const Counts&, size_t width);
    void upload(const Ctx& ctx, int* to, const std::vector<int>& from) const {
        memory_->to_device(ctx, to, from.data(), from.size() * sizeof(int));
    }
    Sequences extended(const Ctx&, int tokens);
    Sequences one_sequence(const Ctx&, std::vector<int> start, int tokens, int size);
    Routing routing(const Ctx&, const Ops<E>&, const std::vector<int>& chosen, const Sequences&);
    void choose_own_blocks(std::vector<int>& chosen, int tokens) const;

    // ---- context_choice.cpp
    struct Plan {
        std::vector<int> used;    // (H, M)
        std::vector<int> counts;  // (from, to, H) queries, of all pairs of ranks
        std::vector<int> slot;    // of queries that go out, by rank and head: the row of part to fill
        std::vector<int> place;   // of queries that come (guests), by rank and head: the block to attend
        int rounds = 1;
    };
    int count(const Plan& p, int from, int to, int h) const {
        return p.counts[((size_t)from * ranks_ + to) * H() + h];
    }
    Plan make_plan(const std::vector<int>& chosen);

    // ---- context_moba.cpp
    struct Round {
        int number;
        Counts send, receive;
        // Of queries that go out: rows of q, of lse, of part. Of guests: rows of extended q, of extended lse
        std::vector<int> from, from_lse, slot, to, to_lse;
        std::vector<int> chosen;  // (H, tokens)
        int tokens = 0;           // own ones and guests
    };
    struct Part {  // of a round: queries of one head between this rank and another one
        int h;
        size_t begin, end;  // in Plan::slot or Plan::place
        size_t at;          // in the lists of the round
        int guest;          // the first one's number among the guests of the head, in this round
    };
    std::vector<Part> parts(const Plan&, int number, bool out) const;
    Round round(const Plan&, int number) const;
    void upload(const Ctx&, const Round&);
    void begin_extended(const Ctx&, const E* q, const E* k, const E* v);
    void send_queries(const Ctx&, const Ops<E>&, const Round&, E* extended, const E* own);
    void send_numbers(const Ctx&, const Ops<E>&, const Round&, A* extended, const A* own);
    void results_to_slots(const Ctx&, const Ops<E>&, const Round&);
    void upload_own_slots(const Ctx&, const Plan&);
    void own_numbers(const Ctx&, A* extended, const A* own, int tokens);
    void moba_forward(const Ctx&, const Ops<E>&, const Plan&, E* out, A* lse, const E* q, const E* k,
                      const E* v);
    void moba_backward(const Ctx&, const Ops<E>&, const Plan&, E* dq, E* dk, E* dv, const E* dout,
                       const A* delta, const E* q, const E* k, const E* v, const A* lse);

    // ---- context_window.cpp
    struct Halo {
        std::vector<int> cu;                       // of the runs of this rank, each with its halo
        std::vector<int> own;                      // (rows) where the own tokens are among all of these
        std::vector<std::vector<int>> take, give;  // by rank: where its tokens go; own rows that go there
    };
    Halo make_halo(int window) const;
    size_t most_halo(int window) const;
    Sequences extend_runs(const Ctx&, const Ops<E>&, const Halo&, const E* q, const E* k, const E* v);
    void window_forward(const Ctx&, const Ops<E>&, int layer, E* out, A* lse, const E* q, const E* k,
                        const E* v);
    void window_backward(const Ctx&, const Ops<E>&, int layer, E* dq, E* dk, E* dv, const E* dout,
                         const A* delta, const E* q, const E* k, const E* v, const A* lse);

    // ---- context_full.cpp
    struct Piece {  // of one round: own tokens, and the piece of the keys that each attends
        std::vector<int> tokens, chosen;
    };
    struct FullPlan {
        std::vector<int> chunks;  // where they begin
        std::vector<Piece> by_chunk, by_block;
    };
    FullPlan make_full_plan() const;
    size_t full_tokens() const;
    std::vector<std::vector<int>> tokens_by_rank() const;
    void gather_keys(const Ctx&, const Ops<E>&, const E* k, const E* v);
    template <class F>
    void each_piece(const Ctx&, const Ops<E>&, const FullPlan&, F);
    Sequences own_blocks(const Ctx&, const Ops<E>&, Routing*);
    void full_forward(const Ctx&, const Ops<E>&, E* out, A* lse, const E* q, const E* k, const E* v);
    void full_backward(const Ctx&, const Ops<E>&, E* dq, E* dk, E* dv, const E* dout, const A* delta,
                       const E* q, const E* k, const E* v, const A* lse);

    AttentionShape one_slot() const;
    int H() const { return config_.num_heads; }
    int G() const { return config_.num_kv_heads; }
    int D() const { return config_.head_dim; }
    int K() const { return config_.top_k; }
    int rows() const { return (int)dealt_.tokens.size(); }
    int most_local_blocks() const { return ceil_div(most_blocks_, ranks_) + 1; }

    Config config_;
    const DeviceOps* memory_;
    Comm& comm_;
    int ranks_, first_rank_, rank_;  // of the group
    bool training_;
    int whole_tokens_;      // most of a micro-batch
    int most_rows_;         // tokens of a rank
    int most_guests_;       // of a head in a round
    int most_blocks_;       // of a micro-batch
    size_t most_extended_;  // own tokens and guests, or halos, or all keys
    size_t most_sent_;      // rows of D at once
    size_t bytes_sent_ = 0;
    Sequences whole_{};
    Dealt dealt_;
    std::vector<Plan> plans_;    // of each layer
    std::map<int, Halo> halos_;  // by window

    // Of the choice: rows for the own tokens, then one for each part of each block, its mean
    E* gate_k_;  // (rows + blocks * parts, G, D)
    E *means_, *all_means_;
    int *gate_table_, *gate_chosen_, *mean_rows_;
    // Own tokens, then guests
    E *q_, *out_, *dout_;    // (tokens, H, D); out_ also holds dq
    E *dk_all_, *dv_all_;    // (T, G, D), full layers
    E *k_, *v_, *dk_, *dv_;  // (tokens, G, D)
    A *lse_, *delta_;        // (H, tokens)
    E* part_;                // (H, rows, K, D)
    A* part_lse_;            // (H, rows, K)
    E *sent_, *got_;         // rows of D
    int *table_, *chosen_, *list_, *list_start_;
    int *from_, *from_lse_, *slot_, *to_, *to_lse_;  // Round::from and so on
    int *own_slot_, *own_lse_, *used_;  // rows of part, of extended lse: by token and head; Plan::used
};

}  // namespace moba
