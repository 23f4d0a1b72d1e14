/* A micro-batch of samples on the host, as the model takes it. */
#pragma once
#include "train/task.h"

struct Batch {
    std::vector<int> tokens, targets, cu_seqlens{0};

    void add(const Sample& s) {
        tokens.insert(tokens.end(), s.tokens.begin(), s.tokens.end());
        targets.insert(targets.end(), s.targets.begin(), s.targets.end());
        cu_seqlens.push_back((int)tokens.size());
    }
    int counted() const {
        int n = 0;
        for (int t : targets) { n += t != ignored; }
        return n;
    }
};
