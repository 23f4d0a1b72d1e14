/* The kernels of decoding against the CPU: a prompt, a few tokens one by one, then the query of the last
   token. Keys and queries are small whole numbers, so means and scores are exact and the choice is the same
   everywhere. */
#include "moba/attention/decode.h"
#include "test/support/attention_case.h"
#include "test/support/kernel_case.h"

namespace moba {

namespace {

using namespace attention_case;
using namespace kernel_case;

void expect_decode(const Case& c) {
    const AttentionShape s = shape_of(c);
    const int T = c.lengths[0], row = c.G * c.D, limit = c.S <= 32 ? 2 : 1;
    const CacheShape shape{T + 3, c.G, c.D, c.sizes(), c.gate};
    expect_kernels("decode T=" + std::to_string(T), 1, [&](auto& on) {
        using R = std::decay_t<decltype(on)>;
        using E = typename R::E;
        using A = typename R::A;
        const E* q = on.constant(draw_integers<E>((size_t)c.H * c.D, 1, limit));
        const E* k = on.constant(draw_integers<E>((size_t)T * row, 2, limit));
        const E* v = on.input((size_t)T * row, 3);
        // NaN shows whether cache rows are read that were not written
        const std::vector<E> empty((size_t)shape.capacity * row, E((A)NAN));
        E *k_cache = on.constant(empty), *v_cache = on.constant(empty);
        A* means = on.template inout<A>("means", std::vector<A>(shape.first_mean(c.G), (A)-7));
        for (int t = 0, count; t < T; t += count) {
            count = std::max(1, T - t - 18);
            const int* position = on.constant(std::vector<int>{t});
            CALL(cache_rows, E, k_cache, k + (size_t)t * row, position, count, row);
            CALL(cache_rows, E, v_cache, v + (size_t)t * row, position, count, row);
            CALL(cache_means, E, means, k_cache, position, count, shape);
        }
        if constexpr (R::gpu) {
            on.workspace(decode_workspace_bytes_gpu<E>(shape, s));
        } else {
            on.workspace(decode_workspace_bytes_cpu<E>(shape, s));
        }
        E* out = on.template output<E>("out", {c.H, c.D});
        const int* position = on.constant(std::vector<int>{T - 1});
        const int longest = T + c.lengths[0] % 4;  // launched for more tokens than the cache holds
        CALL(decode_attention, E, out, q, k_cache, v_cache, means, position,
             std::min(longest, shape.capacity), shape, s);
    });
}

TEST(Kernels, Decode) {
    for (const Case& c : {
             Case{{1}, 1, 1, 16, full},
             {{70}, 4, 2, 6, full},
             {{2500}, 2, 1, 16, full},  // three pieces
             {{150}, 2, 2, 256, full},
             {{33}, 3, 1, 250, full},
             {{70}, 4, 2, 18, window, 7},
             {{1500}, 2, 1, 64, window, 1200},
             {{70}, 2, 2, 16, window, 1},
             {{30}, 2, 2, 1, window, 100},
         }) {
        expect_decode(c);
    }
}

TEST(Kernels, DecodeMoba) {
    for (const Gate gate : {Gate::topk, Gate::max, Gate::lse, Gate::recent, Gate::sink}) {
        for (const Case& c : {
                 Case{{1}, 2, 1, 16, moba},
                 {{16}, 2, 1, 16, moba},  // the query's own block is complete, and its mean is in the cache
                 {{17}, 2, 1, 16, moba},
                 {{150}, 4, 2, 80, moba},
                 {{150}, 4, 2, 6, moba, 0, 16, 1},
                 {{150}, 2, 1, 16, moba, 0, 16, 10},  // all blocks
                 {{310}, 6, 3, 16, moba, 0, 32, 2, 2},
                 {{310}, 8, 4, 16, moba, 0, 64, 2, 3},
                 {{6000}, 2, 1, 16, moba, 0, 16, 64},  // more past blocks than a block has threads
                 {{5000}, 2, 1, 4, moba, 0, 2048, 2},  // a block of keys is two pieces
                 {{128}, 2, 1, 128, moba, 0, 64, 2},
                 {{150}, 6, 2, 16, moba, 0, 4, 5, 1, Gate::topk, 1, true},
             }) {
            Case now = c;
            now.gate = gate;
            expect_decode(now);
        }
    }
}

}  // namespace

}  // namespace moba
