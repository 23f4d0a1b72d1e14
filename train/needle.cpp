#include "train/needle.h"
#include <algorithm>
#include <nlohmann/json.hpp>

NeedleTask::NeedleTask(const NeedleSettings& s, const std::string& where) : s_(s) {
    const auto in_range = [&](const char* name, int value, int lo, int hi) {
        if (value < lo || value > hi) {
            throw Error(where + "needle " + name + " = " + std::to_string(value) + ": must be between " +
                        std::to_string(lo) + " and " + std::to_string(hi));
        }
    };
    in_range("num-keys", s.num_keys, 4, 1 << 20);
    in_range("num-values", s.num_values, 2, 1 << 20);
    in_range("num-noise", s.num_noise, 1, 1 << 20);
    in_range("pairs", s.pairs, 4, s.num_keys);
    in_range("questions", s.questions, 0, 1 << 16);
    in_range("value-tokens", s.value_tokens, 1, 64);
}

double NeedleTask::chance() const { return std::pow(1.0 / s_.num_values, s_.value_tokens); }

int NeedleTask::shortest(int pairs) const { return (pairs + questions(pairs)) * (1 + s_.value_tokens); }

nlohmann::json NeedleTask::settings() const {
    return {{"name", "needle"},          {"pairs", s_.pairs},
            {"questions", s_.questions}, {"value-tokens", s_.value_tokens},
            {"num-keys", s_.num_keys},   {"num-values", s_.num_values},
            {"num-noise", s_.num_noise}};
}

std::string NeedleTask::token_name(int id) const {
    if (id < s_.num_keys) { return std::string("k") + std::to_string(id); }
    if (id < s_.num_keys + s_.num_values) { return std::string("v") + std::to_string(id - s_.num_keys); }
    return std::string("n") + std::to_string(id - s_.num_keys - s_.num_values);
}

// `count` different numbers below n, in random order.
static std::vector<int> draw_distinct(Rng& rng, int n, int count) {
    std::vector<int> all(n);
    for (int i = 0; i < n; i++) { all[i] = i; }
    for (int i = 0; i < count; i++) { std::swap(all[i], all[i + rng.below(n - i)]); }
    all.resize(count);
    return all;
}

std::vector<NeedleTask::Pair> NeedleTask::draw_pairs(Rng& rng, int count) const {
    std::vector<Pair> pairs;
    for (int key : draw_distinct(rng, s_.num_keys, count)) {
        pairs.push_back({key, {}});
        for (int i = 0; i < s_.value_tokens; i++) {
            pairs.back().value.push_back(s_.num_keys + rng.below(s_.num_values));
        }
    }
    return pairs;
}

static void append(std::vector<int>& tokens, int key, const std::vector<int>& value) {
    tokens.push_back(key);
    tokens.insert(tokens.end(), value.begin(), value.end());
}

// A key and its value, each value token wanted after the token before it.
static void ask(Sample& out, int key, const std::vector<int>& value) {
    for (int v : value) { out.targets.push_back(v); }
    out.targets.push_back(ignored);
    append(out.tokens, key, value);
}

void NeedleTask::draw(Rng& rng, int T, int num_pairs, Sample& out) const {
    REQUIRE(T >= shortest(num_pairs) && num_pairs <= s_.num_keys, "T = %d, pairs = %d", T, num_pairs);
    const std::vector<Pair> pairs = draw_pairs(rng, num_pairs);
    const int width = 1 + s_.value_tokens, context = T - questions(num_pairs) * width;
    // The context is a row of items, a pair or one token of noise; any items may be the pairs.
    const int items = context - num_pairs * (width - 1);
    std::vector<int> place(items, -1);
    const std::vector<int> chosen = draw_distinct(rng, items, num_pairs);
    for (int p = 0; p < num_pairs; p++) { place[chosen[p]] = p; }
    out.tokens.clear();
    for (int p : place) {
        if (p < 0) {
            out.tokens.push_back(s_.num_keys + s_.num_values + rng.below(s_.num_noise));
        } else {
            append(out.tokens, pairs[p].key, pairs[p].value);
        }
    }
    out.targets.assign(out.tokens.size(), ignored);
    for (int q = 0; q < questions(num_pairs); q++) {
        const Pair& p = pairs[rng.below(num_pairs)];
        ask(out, p.key, p.value);
    }
}

void NeedleTask::draw_test(Rng& rng, int T, double depth, Sample& out) const {
    const int width = 1 + s_.value_tokens, context = T - width;
    REQUIRE(context >= s_.pairs * width, "T = %d for %d pairs", T, s_.pairs);
    const std::vector<Pair> pairs = draw_pairs(rng, s_.pairs);  // pairs[0] is the target
    const int wanted = (int)std::lround(depth * (context - width));
    const int others = context - width - (s_.pairs - 1) * (width - 1);  // items that are not the target
    std::vector<int> place(others, 0);
    const std::vector<int> chosen = draw_distinct(rng, others, s_.pairs - 1);
    for (int p = 1; p < s_.pairs; p++) { place[chosen[p - 1]] = p; }
    out.tokens.clear();
    bool placed = false;
    for (int i = 0; i <= others; i++) {
        if (!placed && (i == others || (int)out.tokens.size() >= wanted)) {
            append(out.tokens, pairs[0].key, pairs[0].value);
            placed = true;
        }
        if (i == others) { break; }
        if (place[i] == 0) {
            out.tokens.push_back(s_.num_keys + s_.num_values + rng.below(s_.num_noise));
        } else {
            append(out.tokens, pairs[place[i]].key, pairs[place[i]].value);
        }
    }
    out.targets.assign(out.tokens.size(), ignored);
    ask(out, pairs[0].key, pairs[0].value);
}
