/* Products and matrices of the simulator's tensor cores: described in async.h. */
#include "test/simt/async_state.h"
#include <atomic>

namespace simt {
namespace {

constexpr uint32_t poison = 0xFFBADBAD;  // a NaN that no product has as its result

std::atomic<long> matrix_rows8{0}, matrix_conflicts{0};

float float_of(uint32_t bf16) {
    const uint32_t bits = bf16 << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
float half_of(uint32_t pair, int i) { return float_of(i ? pair >> 16 : pair & 0xFFFFu); }
bool is_hidden(float x) {  // never written, or not yet there
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits == 0xFFFF0000u;
}

/* Eight rows of 16 bytes are accessed together. Rows in the same group of four banks have to wait for each
   other. */
void count_conflicts(const uint32_t* offset) {
    int rows[8] = {}, accesses = 0;
    for (int r = 0; r < 8; r++) {
        bool again = false;
        for (int s = 0; s < r; s++) { again |= offset[s] == offset[r]; }
        if (!again) { accesses = std::max(accesses, ++rows[offset[r] / 16 % 8]); }
    }
    matrix_conflicts += accesses - 1;
    matrix_rows8++;
}

/* The address of eight elements that lie together, of the operand that a descriptor names: (mn, k ... k + 7),
   or (mn ... mn + 7, k) if transposed. The operand's rows of 128, 64 or 32 bytes are in groups of 8. The
   16-byte pieces of a row are permuted by the number of the row: bits 7 and up of the address are xored into
   bits 4 and up. */
const unsigned char* piece_at(uint64_t desc, bool transposed, uint32_t mn, uint32_t k) {
    const uint32_t base = (uint32_t)(desc & 0x3FFF) << 4, leading = (uint32_t)(desc >> 16 & 0x3FFF) << 4,
                   stride = (uint32_t)(desc >> 32 & 0x3FFF) << 4;
    const int mode = (int)(desc >> 62);
    const uint32_t pitch = 256u >> mode, wide = pitch / 2;  // bytes and elements of a row
    uint32_t at = transposed ? base + mn / wide * leading + mn % wide * 2 + k / 8 * stride + k % 8 * pitch
                             : base + mn / 8 * stride + mn % 8 * pitch + k * 2;
    at ^= (at >> 7 & (pitch / 16 - 1)) << 4;
    if (at + 16 > max_shared_bytes) { fail_here("wgmma: a descriptor that reads outside shared memory"); }
    return async().view.data() + at;
}

// to: (16 k, rows)
void read_operand(uint64_t desc, bool transposed, int rows, float* to) {
    if (desc >> 62 == 0) { fail_here("wgmma: a descriptor without swizzle is not simulated"); }
    if (desc >> 49 & 7) { fail_here("wgmma: a base offset is not simulated"); }
    const int step_mn = transposed ? 8 : 1, step_k = transposed ? 1 : 8;
    for (int mn = 0; mn < rows; mn += step_mn) {
        for (int k = 0; k < 16; k += step_k) {
            uint16_t piece[8];
            std::memcpy(piece, piece_at(desc, transposed, (uint32_t)mn, (uint32_t)k), 16);
            float* out = to + k * rows + mn;
            for (int i = 0; i < 8; i++) { out[transposed ? i : i * rows] = float_of(piece[i]); }
        }
    }
}

// Row and column of register i of a lane, in the 16 rows of a warp: of A in registers, of the accumulators.
int row_of(int lane, int i) { return lane / 4 + i / 2 % 2 * 8; }
int column_of(int lane, int i) { return lane % 4 * 2 + i % 2 + i / 4 * 8; }

constexpr int group_rows = 64, max_N = 256;

/* Computes the 16 rows of a product that belong to one warp. Called at the wait. The rows of A of the other
   three warps must be there, too: PTX does not say which warp reads them. */
void run_product(WarpAsync& w, const WarpProduct& product, unsigned warp) {
    const Product& p = product.shared;
    const int N = p.N;
    thread_local float A_group[16 * group_rows], A[16 * 16], B[16 * max_N];  // (k, rows)
    bool hidden = false;
    if (product.a[0]) {
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 8; i++) {
                A[column_of(l, i) * 16 + row_of(l, i)] = half_of(product.a[l][i / 2], i % 2);
            }
        }
    } else {
        read_operand(p.desc_a, p.a_transposed, group_rows, A_group);
        for (const float x : A_group) { hidden |= is_hidden(x); }
        const float* mine = A_group + warp % 4 * 16;
        for (int k = 0; k < 16; k++) { std::copy_n(mine + k * group_rows, 16, A + k * 16); }
    }
    read_operand(p.desc_b, p.b_transposed, N, B);
    Accumulators& acc = w.running.at(p.d);
    float* C = acc.value.data();
    if (!p.accumulate) { std::fill_n(C, 16 * N, 0.f); }
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 16; k++) {
            for (int n = 0; n < N; n++) { C[r * N + n] += A[k * 16 + r] * B[k * N + n]; }
        }
    }
    if (hidden) { std::fill_n(C, 16 * N, NAN); }
    if (--acc.products > 0) { return; }
    for (int l = 0; l < 32; l++) {
        for (int i = 0; i < N / 2; i++) {
            uint32_t bits;
            std::memcpy(&bits, acc.d[l] + i, 4);
            if (bits != poison) { fail_here("wgmma: accumulators were written while a product ran"); }
            acc.d[l][i] = C[row_of(l, i) * N + column_of(l, i)];
        }
    }
    w.running.erase(p.d);
}

void issue(Product** lane) {
    WarpAsync& w = my_warp();
    const Product& x = *lane[0];
    WarpProduct p{x, {}};
    for (int l = 0; l < 32; l++) {
        const Product& y = *lane[l];
        if (y.desc_a != x.desc_a || y.desc_b != x.desc_b || y.accumulate != x.accumulate) {
            fail_here("wgmma: lanes bring different descriptors");
        }
        p.a[l] = y.a;
    }
    if (!w.fenced) { fail_here("wgmma: no wgmma_fence since the last wait"); }
    auto [at, fresh] = w.running.try_emplace(x.d);
    Accumulators& acc = at->second;
    if (fresh) {
        acc.N = x.N;
        acc.value.resize((size_t)16 * x.N);
        for (int l = 0; l < 32; l++) {
            acc.d[l] = lane[l]->d;
            for (int i = 0; i < x.N / 2; i++) {
                acc.value[row_of(l, i) * x.N + column_of(l, i)] = acc.d[l][i];
                std::memcpy(acc.d[l] + i, &poison, 4);
            }
        }
    } else if (acc.N != x.N) {
        fail_here("wgmma: two shapes with one set of accumulators in flight");
    }
    acc.products++;
    w.open.push_back(p);
}

template <class F>
void once_for_the_warp(WarpOp operation, Site site, F f) {
    Unseen unseen;
    int nothing = 0;
    collective(~0u, nothing, operation, site, [&](int**, uint32_t) { f(my_warp()); });
}

struct MatrixOperand {
    uint16_t* row;
    uint32_t* r;
    uint32_t offset;
    bool transposed;
};
// Calls f(the 16 bits in memory, the register, the half of it) for all elements of four 8 x 8 matrices.
template <class F>
void each_element(MatrixOperand** lane, uint32_t needed, F f) {
    if (needed != ~0u) { fail_here("ldmatrix or stmatrix: lanes are missing"); }
    const bool transposed = lane[0]->transposed;
    for (int m = 0; m < 4; m++) {
        uint32_t offset[8];
        for (int i = 0; i < 8; i++) { offset[i] = lane[m * 8 + i]->offset; }
        count_conflicts(offset);
        for (int l = 0; l < 32; l++) {
            for (int h = 0; h < 2; h++) {
                const int g = l / 4, c = l % 4 * 2 + h;
                f((transposed ? lane[m * 8 + c]->row + g : lane[m * 8 + g]->row + c), lane[l]->r[m], h);
            }
        }
    }
}

}  // namespace

MatrixAccesses matrix_accesses() { return {matrix_rows8, matrix_conflicts}; }

void mma_16x8x16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Site site) {
    Unseen unseen;
    struct Operand {
        float* c;
        const uint32_t* a;
        uint32_t b[2];
    } mine{c, a, {b0, b1}};
    collective(~0u, mine, WarpOp::mma, site, [](Operand** lane, uint32_t needed) {
        if (needed != ~0u) { fail_here("mma.sync: lanes are missing"); }
        if (watcher) { watcher->tensor_flop(2. * 16 * 8 * 16); }
        float A[16][16], B[16][8], C[16][8];
        for (int l = 0; l < 32; l++) {
            const int g = l / 4, c = l % 4;
            for (int i = 0; i < 8; i++) {
                A[g + (i / 2 % 2) * 8][c * 2 + i % 2 + i / 4 * 8] = half_of(lane[l]->a[i / 2], i % 2);
            }
            for (int i = 0; i < 4; i++) {
                B[c * 2 + i % 2 + i / 2 * 8][g] = half_of(lane[l]->b[i / 2], i % 2);
                C[g + i / 2 * 8][c * 2 + i % 2] = lane[l]->c[i];
            }
        }
        for (int r = 0; r < 16; r++) {
            for (int k = 0; k < 16; k++) {
                for (int n = 0; n < 8; n++) { C[r][n] += A[r][k] * B[k][n]; }
            }
        }
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 4; i++) { lane[l]->c[i] = C[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]; }
        }
    });
}

void load_matrices(uint32_t* r, const void* row, bool transposed, Site site) {
    Unseen unseen;
    if ((uintptr_t)row % 16) { fail("ldmatrix: a row that is not 16-byte aligned", site); }
    if (watcher) { watcher->access(row, 16, false, __builtin_return_address(0)); }
    MatrixOperand mine{(uint16_t*)row, r, offset_of(row, 16), transposed};
    collective(~0u, mine, transposed ? WarpOp::ldmatrix_transposed : WarpOp::ldmatrix, site,
               [](MatrixOperand** lane, uint32_t needed) {
                   each_element(lane, needed, [](const uint16_t* at, uint32_t& r, int h) {
                       r = h ? (r & 0xFFFFu) | (uint32_t)*at << 16 : (uint32_t)*at;
                   });
               });
}
void store_matrices(void* row, const uint32_t* r, bool transposed, Site site) {
    Unseen unseen;
    if ((uintptr_t)row % 16) { fail("stmatrix: a row that is not 16-byte aligned", site); }
    if (watcher) { watcher->access(row, 16, true, __builtin_return_address(0)); }
    MatrixOperand mine{(uint16_t*)row, (uint32_t*)r, offset_of(row, 16), transposed};
    collective(~0u, mine, transposed ? WarpOp::stmatrix_transposed : WarpOp::stmatrix, site,
               [](MatrixOperand** lane, uint32_t needed) {
                   each_element(lane, needed,
                                [](uint16_t* at, uint32_t& r, int h) { *at = (uint16_t)(r >> 16 * h); });
               });
    note_write(thread_index(), row, 16);
}

void wgmma_issue(const Product& p, Site site) {
    Unseen unseen;
    Product mine = p;
    collective(~0u, mine, WarpOp::wgmma, site, [](Product** lane, uint32_t needed) {
        if (needed != ~0u || context.num_threads % 128) { fail_here("wgmma: not a whole warpgroup"); }
        if (watcher) { watcher->tensor_flop(2. * 16 * lane[0]->N * 16); }
        issue(lane);
    });
}
void wgmma_fence_warp(Site site) {
    once_for_the_warp(WarpOp::wgmma_fence, site, [](WarpAsync& w) { w.fenced = true; });
}
void wgmma_commit_warp(Site site) {
    once_for_the_warp(WarpOp::wgmma_commit, site, [](WarpAsync& w) {
        w.groups.push_back(std::move(w.open));
        w.open.clear();
    });
}
void wgmma_wait_for(int newest, Site site) {
    const unsigned warp = context.current->warp;
    once_for_the_warp(WarpOp::wgmma_wait, site, [=](WarpAsync& w) {
        for (; (int)w.groups.size() > newest; w.groups.pop_front()) {
            for (const WarpProduct& p : w.groups.front()) { run_product(w, p, warp); }
        }
        w.fenced = false;
    });
}

}  // namespace simt
