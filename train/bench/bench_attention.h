/* bench attention: the gate, its lists, attention forward and backward, MoBA against full attention. bench op shows the same rows. */
#pragma once
#include "train/bench/bench_rows.h"

namespace moba {

template <class E>
void bench_attention(const BenchOptions&, nlohmann::json& result);

/* Of one kind of attention; with moba the gate too. */
template <class E>
std::vector<OpBench> attention_benches(Operands&, const BenchOptions&, AttentionKind);
/* Of one token behind --seq-len others, and what fills its cache. */
template <class E>
std::vector<OpBench> decode_benches(Operands&, const BenchOptions&);

}  // namespace moba
