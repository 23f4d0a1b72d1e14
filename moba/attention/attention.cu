/* Attention on the GPU: chooses the version, and holds version 1, which follows the equations query by
   query. Contract: attention.h. */
#include "moba/attention/launch.cuh"
#include <algorithm>

namespace moba {

namespace {

/* The part of a row of D numbers that one lane holds: every 32nd number. */
struct LaneRow {
    static constexpr int max = max_head_dim_gpu / warp_size;
    float at[max];

    template <class E>
    __device__ void load(const E* row, int D) {
#pragma unroll
        for (int i = 0; i < max; i++) {
            const int d = threadIdx.x % warp_size + i * warp_size;
            at[i] = d < D ? (float)row[d] : 0.f;
        }
    }
    template <class E>
    __device__ void store(E* row, int D, float factor) const {
#pragma unroll
        for (int i = 0; i < max; i++) {
            const int d = threadIdx.x % warp_size + i * warp_size;
            if (d < D) { row[d] = E(at[i] * factor); }
        }
    }
    __device__ float dot(const LaneRow& o) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < max; i++) { sum += at[i] * o.at[i]; }
        return warp_sum(sum);
    }
    __device__ void add(float weight, const LaneRow& o) {
#pragma unroll
        for (int i = 0; i < max; i++) { at[i] += weight * o.at[i]; }
    }
};

struct KeyRange {
    int begin, end;
};
/* The keys that query t may see are one range, or for MoBA one range for each chosen block.
   Returns range i; an empty range means that there are no more. */
__device__ KeyRange key_range(const Heads& s, int head, int t, int i) {
    if (!s.chosen) { return i == 0 ? KeyRange{s.first_key(t), t + 1} : KeyRange{0, 0}; }
    const int block = i < s.K ? s.chosen[head * s.slots() + (size_t)t * s.K + i] : -1;
    return block < 0 ? KeyRange{0, 0}
                     : KeyRange{s.blocks.start[block], min(s.blocks.start[block + 1], t + 1)};
}
// Calls f(j) for every key j that query t of this head may see.
template <class F>
__device__ __forceinline__ void for_each_key(const Heads& s, int head, int t, F f) {
    for (int i = 0;; i++) {
        const KeyRange keys = key_range(s, head, t, i);
        if (keys.begin == keys.end) { break; }
        for (int j = keys.begin; j < keys.end; j++) { f(j); }
    }
}

}  // namespace

/* out[t] = sum_j p[t,j] v[j], lse[t] = log sum_j e^s[t,j], one key at a time with a running maximum
   Maps     warp -> one query of one head; lane -> every 32nd channel
   Memory   reads of k and v are coalesced; every query reads all of its keys from global memory
   Sync     only the shuffles of the dot product
   Differs  version 1: follows the equations */
template <class E>
__global__ void attention_forward_kernel1(AttentionOperands<E> a, Heads s) {
    const int t = (blockIdx.x * blockDim.x + threadIdx.x) / warp_size, head = blockIdx.y, g = s.kv_head(head);
    if (t >= s.M) { return; }
    LaneRow q, key, value, out{};
    q.load(a.q + s.query(t, head), s.D);
    float top = -INFINITY, sum = 0;
    for_each_key(s, head, t, [&](int j) {
        key.load(a.k + s.key(j, g), s.D);
        value.load(a.v + s.key(j, g), s.D);
        const float score = q.dot(key) * s.scale, now = max(top, score);
        const float factor = expf(top - now), e = expf(score - now);
        sum = sum * factor + e;
#pragma unroll
        for (int c = 0; c < LaneRow::max; c++) { out.at[c] *= factor; }
        out.add((float)E(e), value);
        top = now;
    });
    out.store(a.out + s.query(t, head), s.D, 1 / sum);
    if (threadIdx.x % warp_size == 0) { a.lse[(size_t)(s.first + head) * s.M + t] = top + logf(sum); }
}

/* delta[t] = <dout[t], out[t]>
   Maps     warp -> one query of one head */
template <class E>
__global__ void attention_delta_kernel1(float* delta, const E* dout, const E* out, DeltaShape s) {
    const int t = (blockIdx.x * blockDim.x + threadIdx.x) / warp_size, head = blockIdx.y;
    if (t >= s.M) { return; }
    const size_t at = ((size_t)t * s.H + head) * s.D;
    LaneRow x, y;
    x.load(dout + at, s.D);
    y.load(out + at, s.D);
    const float sum = x.dot(y);
    if (threadIdx.x % warp_size == 0) { delta[(size_t)head * s.M + t] = sum; }
}

/* delta[t] = <dout[t], out[t]>
   Maps     D / N neighbouring lanes -> one query of one head; lane -> one pack of its channels
   Memory   each lane reads 16 bytes of dout and of out; the rows of all heads are contiguous
   Differs  from 1: 16-byte reads instead of 2 or 4 bytes
   Needs    rows that can be read in packs; D / N a power of two, at most 32 */
template <class E>
__global__ void attention_delta_kernel2(float* delta, const E* dout, const E* out, DeltaShape s) {
    constexpr int N = pack_elements<E>;
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int across = s.D / N;
    const size_t row = i / across, rows = (size_t)s.M * s.H;
    float sum = 0;
    if (row < rows) {
        const Pack<E, N> x = load_pack<E, N>(dout + i * N), y = load_pack<E, N>(out + i * N);
#pragma unroll
        for (int j = 0; j < N; j++) { sum += (float)x.at[j] * (float)y.at[j]; }
    }
    for (int bits = across / 2; bits > 0; bits /= 2) { sum += __shfl_xor_sync(all_lanes, sum, bits); }
    if (row < rows && i % across == 0) { delta[row % s.H * s.M + row / s.H] = sum; }
}

/* dq[t] = sum_j ds[t,j] k[j] / sqrt(D),  ds[t,j] = p[t,j] (<dout[t], v[j]> - delta[t]),
   p[t,j] = e^(s[t,j] - lse[t])
   Maps     as in the forward kernel */
template <class E>
__global__ void attention_dq_kernel1(AttentionOperands<E> a, Heads s) {
    const int t = (blockIdx.x * blockDim.x + threadIdx.x) / warp_size, head = blockIdx.y, g = s.kv_head(head);
    if (t >= s.M) { return; }
    const size_t row = (size_t)(s.first + head) * s.M + t;
    const float lse = a.lse[row], delta = a.delta[row];
    LaneRow q, dout, key, value, dq{};
    q.load(a.q + s.query(t, head), s.D);
    dout.load(a.dout + s.query(t, head), s.D);
    for_each_key(s, head, t, [&](int j) {
        key.load(a.k + s.key(j, g), s.D);
        value.load(a.v + s.key(j, g), s.D);
        const float p = expf(q.dot(key) * s.scale - lse);
        dq.add((float)E(p * (dout.dot(value) - delta)), key);
    });
    dq.store(a.dq + s.query(t, head), s.D, s.scale);
}

// Whether query t of this head may see key j. Needs j <= t in the same sequence; `block` is the block of j.
__device__ static bool sees(const Heads& s, int head, int t, int j, int block) {
    if (!s.chosen) { return t - j < s.window; }
    const int* chosen = s.chosen + head * s.slots() + (size_t)t * s.K;
    bool found = false;
    for (int i = 0; i < s.K; i++) { found |= chosen[i] == block; }
    return found;
}

/* dk[j] = sum_t ds[t,j] q[t] / sqrt(D),  dv[j] = sum_t p[t,j] dout[t],
   summed over the queries of all heads that share the key
   Maps     warp -> one key of one key/value head; it checks every later query of the sequence
   Order    fixed: head by head, queries in ascending order */
template <class E>
__global__ void attention_dkdv_kernel1(AttentionOperands<E> a, Heads s) {
    const int j = (blockIdx.x * blockDim.x + threadIdx.x) / warp_size, group = s.group();
    if (j >= s.M) { return; }
    const int head0 = blockIdx.y * group, g = s.kv_head(head0), block = s.chosen ? s.blocks.own[j] : 0;
    LaneRow key, value, q, dout, dk{}, dv{};
    key.load(a.k + s.key(j, g), s.D);
    value.load(a.v + s.key(j, g), s.D);
    for (int head = head0; head < head0 + group; head++) {
        for (int t = j; t < s.M && s.position[t] >= t - j; t++) {
            if (!sees(s, head, t, j, block)) { continue; }
            const size_t row = (size_t)(s.first + head) * s.M + t;
            q.load(a.q + s.query(t, head), s.D);
            dout.load(a.dout + s.query(t, head), s.D);
            const float p = expf(q.dot(key) * s.scale - a.lse[row]);
            dv.add((float)E(p), dout);
            dk.add((float)E(p * (dout.dot(value) - a.delta[row])), q);
        }
    }
    dk.store(a.dk + s.key(j, g), s.D, s.scale);
    dv.store(a.dv + s.key(j, g), s.D, 1);
}

static const int plain_threads = 128, delta_threads = 256;

static dim3 rows_grid(const Heads& s, int heads) {
    return dim3(blocks_for(s.M, plain_threads / warp_size), heads);
}

// Calls f(Heads) for all heads, in as few calls as possible: the heads of one call have equal block sizes.
template <class F>
static void each_head_range(Routing r, const Sequences& seqs, const AttentionShape& s, F f) {
    const int kv_heads = s.kind == AttentionKind::moba && seqs.sizes.levels > 1 ? 1 : s.G;
    for (int g = 0; g < s.G; g += kv_heads) { f(heads_of(g, kv_heads, r, seqs, s)); }
}

/* Whether versions 3 and 4 can run: bf16, a head size that they have, and for MoBA list entries small
   enough that a multiplication can replace the division by K (Divisor in tensor_forward.cuh). */
template <class E>
static bool tensor_fits(const Sequences& seqs, const AttentionShape& s) {
    if (!std::is_same_v<E, bf16> || !has_mma_head_dim(s.D)) { return false; }
    if (s.kind != AttentionKind::moba) { return true; }
    const size_t K = (size_t)s.gate.K << (seqs.sizes.levels - 1);
    return seqs.num_tokens * K * K <= 1ull << 32;
}
template <class E>
int attention_versions_gpu(const Sequences& seqs, AttentionShape s, Direction direction) {
    if (!tensor_fits<E>(seqs, s)) { return s.D <= max_tiled_head_dim ? 2 : 1; }
    const bool backward = direction == Direction::backward;
    const int S = s.kind == AttentionKind::moba ? seqs.level[0].size : 0;
    const bool pass = tiles_pass(S, s.D), wgmma = has_wgmma() && has_wgmma_head_dim(s.D);
    const size_t four = !wgmma     ? 0
                        : pass     ? wgmma_stream_bytes(s.D, direction)
                        : backward ? wgmma_backward_bytes(s.D, S)
                                   : 0,
                 three = pass       ? mma_stream_bytes(s.D, direction)
                         : backward ? mma_backward_bytes(s.D, S)
                                    : 0;
    return wgmma && four <= max_shared_memory() ? 4 : three <= max_shared_memory() ? 3 : 2;
}
template <class E>
static int version_for(const Ctx& ctx, const Sequences& seqs, const AttentionShape& s, Direction direction) {
    REQUIRE(s.H % s.G == 0 && s.H <= 65535, "H = %d, G = %d", s.H, s.G);
    if (s.D > max_head_dim_gpu) {
        throw Error("head_dim = " + std::to_string(s.D) + ": the GPU's kernels take at most " +
                    std::to_string(max_head_dim_gpu));
    }
    return choose_version(ctx, attention_versions_gpu<E>(seqs, s, direction));
}

template <class E>
void attention_forward_gpu(const Ctx& ctx, E* out, acc_t<E>* lse, const E* q, const E* k, const E* v,
                           Routing routing, const Sequences& seqs, AttentionShape s) {
    AttentionOperands<E> a{};
    a.out = out, a.lse = lse, a.q = q, a.k = k, a.v = v;
    const int version = version_for<E>(ctx, seqs, s, Direction::forward);
    if (version >= 2) {
        tiled_forward_gpu(ctx, a, routing, seqs, s, version);
        return;
    }
    each_head_range(routing, seqs, s, [&](const Heads& h) {
        launch(attention_forward_kernel1<E>, rows_grid(h, h.count), plain_threads, 0, ctx.stream, a, h);
        LAUNCHED(ctx);
    });
}

template <class E>
void attention_delta_gpu(const Ctx& ctx, acc_t<E>* delta, const E* dout, const E* out, DeltaShape s) {
    REQUIRE(s.D <= max_head_dim_gpu && s.H <= 65535, "D = %d, H = %d", s.D, s.H);
    const int across = s.D / pack_elements<E>;
    const bool packs = packable<E>(s.D, {dout, out}) && across <= warp_size && (across & (across - 1)) == 0;
    if (choose_version(ctx, packs ? 2 : 1) == 2) {
        launch(attention_delta_kernel2<E>, blocks_for((size_t)s.M * s.H * across, delta_threads),
               delta_threads, 0, ctx.stream, delta, dout, out, s);
    } else {
        launch(attention_delta_kernel1<E>, dim3(blocks_for(s.M, plain_threads / warp_size), s.H),
               plain_threads, 0, ctx.stream, delta, dout, out, s);
    }
    LAUNCHED(ctx);
}

template <class E>
void attention_backward_gpu(const Ctx& ctx, E* dq, E* dk, E* dv, const E* dout, const acc_t<E>* delta,
                            const E* q, const E* k, const E* v, const acc_t<E>* lse, Routing routing,
                            const Sequences& seqs, AttentionShape s) {
    const int version = version_for<E>(ctx, seqs, s, Direction::backward);
    AttentionOperands<E> a{};
    a.lse = (float*)lse, a.q = q, a.k = k, a.v = v, a.dout = dout, a.delta = delta;
    a.dq = dq, a.dk = dk, a.dv = dv;
    if (version >= 2) {
        tiled_backward_gpu(ctx, a, routing, seqs, s, version);
        return;
    }
    each_head_range(routing, seqs, s, [&](const Heads& h) {
        launch(attention_dq_kernel1<E>, rows_grid(h, h.count), plain_threads, 0, ctx.stream, a, h);
        LAUNCHED(ctx);
        launch(attention_dkdv_kernel1<E>, rows_grid(h, h.count / h.group()), plain_threads, 0, ctx.stream, a,
               h);
        LAUNCHED(ctx);
    });
}

template <class E>
size_t attention_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, AttentionShape s,
                                     Direction direction) {
    const auto tiled = [&](Direction d) {
        return s.D > max_tiled_head_dim ? 0 : tiled_workspace_bytes_gpu<E>(max_tokens, max_seqs, sizes, s, d);
    };
    const size_t forward = tiled(Direction::forward);
    return direction == Direction::forward ? forward : std::max(forward, tiled(Direction::backward));
}

INSTANTIATE(attention_forward_gpu)
INSTANTIATE(attention_delta_gpu)
INSTANTIATE(attention_backward_gpu)
INSTANTIATE(attention_versions_gpu)
INSTANTIATE(attention_workspace_bytes_gpu)

}  // namespace moba
