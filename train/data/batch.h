/* A micro-batch of samples on the host, in the form that the model takes. */
#pragma once
#include "train/tasks/task.h"

namespace moba {

struct Batch {
    std::vector<int> tokens, targets, cu_seqlens{0};
    std::vector<int> sources;  // Sample::sources as places in the batch; of task samples only

    void add(const Sample& s) {
        tokens.insert(tokens.end(), s.tokens.begin(), s.tokens.end());
        targets.insert(targets.end(), s.targets.begin(), s.targets.end());
        for (int place : s.sources) { sources.push_back(place < 0 ? place : place + cu_seqlens.back()); }
        cu_seqlens.push_back((int)tokens.size());
    }
    /* Adds a window of text; each token is the target of the one before it. The end token is the last target
       of its document and the first input of the next one. Each document becomes a separate sequence, so
       documents never attend to each other. */
    void add_text(const std::vector<int>& ids, int end_token) {
        for (size_t i = 0; i + 1 < ids.size(); i++) {
            if (i > 0 && ids[i] == end_token) { cu_seqlens.push_back((int)tokens.size()); }
            tokens.push_back(ids[i]);
            targets.push_back(ids[i + 1]);
        }
        cu_seqlens.push_back((int)tokens.size());
    }
    /* The number of targets that are not ignored. */
    int counted() const {
        int n = 0;
        for (int t : targets) { n += t != ignored; }
        return n;
    }
};

}  // namespace moba
