#include "train/eval/router_reach.h"

namespace moba {

static bool reached(const std::vector<AttentionView>& layers, int t, int source) {
    const int begin = t - layers[0].seqs.position[t];
    std::vector<char> tokens(t + 1 - begin);
    tokens[t - begin] = 1;
    for (size_t l = layers.size(); l-- > 0;) { tokens = read_by(layers[l], tokens, begin); }
    return tokens[source - begin];
}

Tally router_reach(const std::vector<AttentionView>& layers, const std::vector<int>& sources) {
    Tally tally;
    for (size_t t = 0; t < sources.size(); t++) {
        if (sources[t] >= 0) { tally.add({reached(layers, (int)t, sources[t]), 1}); }
    }
    return tally;
}

}  // namespace moba
