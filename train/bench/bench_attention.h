/* moba bench attention: times the gate, its lists, and attention forward and backward, for MoBA and for full
   attention. moba bench op shows the same rows. */
#pragma once
#include "train/bench/bench_rows.h"

namespace moba {

template <class E>
void bench_attention(const BenchOptions&, nlohmann::json& result);

/* The operations of one kind of attention; with moba the gate, too. */
template <class E>
std::vector<OpBench> attention_benches(Operands&, const BenchOptions&, AttentionKind);
/* The other scores of the gate than that of MoBA. */
template <class E>
std::vector<OpBench> gate_benches(Operands&, const BenchOptions&);
/* Delta of attention, and the operations that ranks need which share a sequence. */
template <class E>
std::vector<OpBench> slots_benches(Operands&, const BenchOptions&);
/* The operations that decode one token after --seq-len others, and those that fill the cache. */
template <class E>
std::vector<OpBench> decode_benches(Operands&, const BenchOptions&);

}  // namespace moba
