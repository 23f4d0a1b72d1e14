#include "moba/ops/qkv.h"
#include "moba/ops/rope.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

const std::vector<int> positions{0, 1, 2, 0, 1023, 1024, 5};

template <class E>
struct Case {
    QkvShape s;
    std::vector<acc_t<E>> table;
    std::vector<E> qkv;
    size_t of_q, of_k;

    explicit Case(QkvShape shape) : s(shape), table(rope_table_size(1100, shape.D)) {
        std::vector<double> f;
        for (int i = 0; i < s.D / 2; i++) { f.push_back(std::pow(10000.0, -2.0 * i / s.D)); }
        rope_fill_table(table.data(), f, 1100);
        qkv = as<E>(draw<bf16>((size_t)s.M * s.heads() * s.D, 1));
        of_q = (size_t)s.M * s.H * s.D;
        of_k = (size_t)s.M * s.G * s.D;
    }
    // The heads [first, first + count) of every row
    std::vector<E> heads(int first, int count) const {
        std::vector<E> part;
        for (int m = 0; m < s.M; m++) {
            const E* row = qkv.data() + ((size_t)m * s.heads() + first) * s.D;
            part.insert(part.end(), row, row + count * s.D);
        }
        return part;
    }
    std::vector<E> rotated(std::vector<E> x, int heads, bool rotate) const {
        if (rotate) {
            rope_forward_cpu<E>({}, x.data(), x.data(), positions.data(), table.data(), {s.M, heads, s.D});
        }
        return x;
    }
};

// The parts are the columns of qkv. Rotated parts are those columns rotated by rope.h, except for one
// rounding: a compiler may fuse the multiplications of the two functions differently.
TEST(Qkv, SplitIsColumnsRotated) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (const bool rotate_q : {false, true}) {
            for (const bool rotate_k : {false, true}) {
                const Case<E> c({(int)positions.size(), 4, 2, 6, rotate_q, rotate_k});
                Guarded<E> q(c.of_q), k(c.of_k), v(c.of_k);
                qkv_split_cpu<E>({}, q.data(), k.data(), v.data(), c.qkv.data(), positions.data(),
                                 c.table.data(), c.s);
                EXPECT_TRUE(q.intact() && k.intact() && v.intact());
                const auto expect_part = [&](const std::vector<E>& got, const std::vector<E>& want,
                                             bool rotated) {
                    if (rotated) {
                        EXPECT_WITHIN(relative_error(got, want),
                                      (std::is_same_v<E, double> ? 1e-15 : allowed<E>(1.2e-7, 4e-3)));
                    } else {
                        EXPECT_EQ(bits(got), bits(want));
                    }
                };
                expect_part(q.values(), c.rotated(c.heads(0, 4), 4, rotate_q), rotate_q);
                expect_part(k.values(), c.rotated(c.heads(4, 2), 2, rotate_k), rotate_k);
                EXPECT_EQ(bits(v.values()), bits(c.heads(6, 2)));
            }
        }
    });
}

// <split(x), y> = <x, join(y)>: the backward pass of a linear map is its transpose.
TEST(Qkv, JoinIsTheTranspose) {
    for (const bool rotate_q : {false, true}) {
        for (const bool rotate_k : {false, true}) {
            const Case<double> c({(int)positions.size(), 3, 1, 8, rotate_q, rotate_k});
            std::vector<double> q(c.of_q), k(c.of_k), v(c.of_k);
            const auto dq = draw<double>(c.of_q, 2), dk = draw<double>(c.of_k, 3),
                       dv = draw<double>(c.of_k, 4);
            Guarded<double> joined(c.qkv.size());
            qkv_split_cpu<double>({}, q.data(), k.data(), v.data(), c.qkv.data(), positions.data(),
                                  c.table.data(), c.s);
            qkv_join_cpu<double>({}, joined.data(), dq.data(), dk.data(), dv.data(), positions.data(),
                                 c.table.data(), c.s);
            EXPECT_TRUE(joined.intact());
            const double forward = inner(q, dq) + inner(k, dk) + inner(v, dv),
                         backward = inner(c.qkv, joined.values());
            EXPECT_NEAR(forward, backward, 1e-12 * std::fabs(forward));
        }
    }
}

}  // namespace

}  // namespace moba
