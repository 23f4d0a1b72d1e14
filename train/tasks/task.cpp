#include "train/tasks/task.h"
#include <nlohmann/json.hpp>
#include <set>

namespace moba {

using nlohmann::json;

static const struct {
    const char* name;
    TaskMaker make;
    std::set<std::string> numbers;  // names of the settings that the task has
} tasks[] = {
    {"needle",
     make_needle,
     {"pairs", "pair-every", "questions", "key-tokens", "value-tokens", "needles", "synonyms", "num-keys",
      "num-values", "num-noise"}},
    {"mqar", make_mqar, {"pairs", "pair-every", "spread", "num-keys", "num-values"}},
    {"induction", make_induction, {"pairs", "num-noise"}},
    {"copying", make_copying, {"pairs", "num-values", "num-noise"}},
    {"tracking", make_tracking, {"pairs", "questions", "hops", "num-keys", "num-values", "num-noise"}}};

std::vector<std::string> task_names() {
    std::vector<std::string> names;
    for (const auto& t : tasks) { names.push_back(t.name); }
    return names;
}

// The only list of the numeric settings of a task.
template <class Settings, class F>
static void each_number(Settings& s, F f) {
    f("pairs", s.pairs);
    f("pair-every", s.pair_every);
    f("questions", s.questions);
    f("key-tokens", s.key_tokens);
    f("value-tokens", s.value_tokens);
    f("needles", s.needles);
    f("synonyms", s.synonyms);
    f("spread", s.spread);
    f("hops", s.hops);
    f("num-keys", s.num_keys);
    f("num-values", s.num_values);
    f("num-noise", s.num_noise);
}

std::unique_ptr<Task> make_task(const TaskSettings& s, const std::string& where) {
    std::string known;
    for (const auto& t : tasks) {
        if (s.name == t.name) {
            each_number(s, [&](const char* key, int n) {
                if (n != 0 && !t.numbers.count(key)) {
                    throw Error(where + "the " + t.name + " task has no setting " + key + " (" + key + " = " +
                                std::to_string(n) + "): leave it out");
                }
            });
            return t.make(s, where + t.name + " ");
        }
        known += known.empty() ? t.name : std::string(", ") + t.name;
    }
    throw Error(where + "there is no task '" + s.name + "'; the tasks are " + known);
}

json task_to_json(const TaskSettings& s) {
    json j = {{"name", s.name}};
    each_number(s, [&](const char* key, int n) { j[key] = n; });
    return j;
}

TaskSettings task_from_json(const json& j, const std::string& where) {
    if (!j.is_object() || !j.contains("name") || !j["name"].is_string()) {
        throw Error(where + "the task has no name: 'name' is missing or is not a string");
    }
    TaskSettings s;
    s.name = j["name"].get<std::string>();
    each_number(s, [&](const char* key, int& n) {
        const auto it = j.find(key);
        if (it == j.end()) { return; }
        if (!it->is_number_integer() || std::fabs(it->get<double>()) > 1e9) {
            throw Error(where + "'" + key + "' of the task must be a whole number of at most 10^9, not " +
                        it->dump().substr(0, 60));
        }
        n = it->get<int>();
    });
    return s;
}

std::string Task::token_name(int id) const {
    const struct {
        char letter;
        int size;
    } alphabets[] = {{'k', s_.num_keys}, {'v', s_.num_values}, {'n', s_.num_noise}};
    for (const auto& a : alphabets) {
        if (id < a.size) { return a.letter + std::to_string(id); }
        id -= a.size;
    }
    return marks_[id];
}

int Task::token_id(const std::string& name) const {
    for (int id = 0; id < vocab_size(); id++) {
        if (token_name(id) == name) { return id; }
    }
    throw Error("'" + name + "' is not a token of the " + s_.name + " task; its " +
                std::to_string(vocab_size()) + " tokens are " + token_name(0) + ", " + token_name(1) +
                ", ... " + token_name(vocab_size() - 1));
}

void check_longest(const Task& task, int T, const std::string& what) {
    if (T > task.longest()) {
        throw Error(what + ": with pair-every = " + std::to_string(task.settings().pair_every) + " the " +
                    task.settings().name + " task has enough different keys and values for at most " +
                    std::to_string(task.longest()) + " tokens; fewer pairs (a larger pair-every), or more " +
                    "keys and values in training");
    }
}

void check_test_length(const Task& task, int T, const std::string& what) {
    if (T < task.shortest_test()) {
        throw Error(what + ": a test of the " + task.settings().name + " task needs at least " +
                    std::to_string(task.shortest_test()) + " tokens");
    }
    check_longest(task, T, what);
}

std::string token_text(const Task& task, const int* tokens, size_t count) {
    std::string out;
    for (size_t i = 0; i < count; i++) {
        if (i) { out += ' '; }
        out += task.token_name(tokens[i]);
    }
    return out;
}

// -----------------------------------------------------------------------------------------------------------

int checked(const char* option, int value, int fallback, int lo, int hi, const std::string& where) {
    if (value == 0) { value = fallback; }
    if (value < lo || value > hi) {
        throw Error(where + option + " = " + std::to_string(value) + ": must be between " +
                    std::to_string(lo) + " and " + std::to_string(hi));
    }
    return value;
}

std::vector<int> draw_distinct(Rng& rng, int n, int count) {
    std::vector<int> all(n);
    for (int i = 0; i < n; i++) { all[i] = i; }
    for (int i = 0; i < count; i++) { std::swap(all[i], all[i + rng.below(n - i)]); }
    all.resize(count);
    return all;
}

void add_tokens(Sample& s, const std::vector<int>& tokens) {
    s.tokens.insert(s.tokens.end(), tokens.begin(), tokens.end());
    s.targets.resize(s.tokens.size(), ignored);
    s.sources.resize(s.tokens.size(), -1);
}

void add_answer(Sample& s, const std::vector<int>& sources) {
    for (int place : sources) {
        s.targets.back() = s.tokens[place];
        s.sources.back() = place;
        add_tokens(s, {s.targets.back()});
    }
}

}  // namespace moba
