#include "train/task.h"
#include "train/needle.h"
#include <nlohmann/json.hpp>

using nlohmann::json;

std::vector<std::string> task_names() { return {"needle"}; }

static int number(const json& j, const char* key, int fallback, const std::string& where) {
    const auto it = j.find(key);
    if (it == j.end()) { return fallback; }
    if (!it->is_number_integer() || std::fabs(it->get<double>()) > 1e9) {
        throw Error(where + "task '" + key + "' must be a whole number");
    }
    return it->get<int>();
}

std::unique_ptr<Task> make_task(const json& j, const std::string& where) {
    if (!j.is_object() || !j.contains("name") || !j["name"].is_string()) {
        throw Error(where + "no task is named");
    }
    const std::string name = j["name"].get<std::string>();
    if (name == "needle") {
        const NeedleSettings d;
        return std::make_unique<NeedleTask>(
            NeedleSettings{
                number(j, "pairs", d.pairs, where), number(j, "questions", d.questions, where),
                number(j, "value-tokens", d.value_tokens, where), number(j, "num-keys", d.num_keys, where),
                number(j, "num-values", d.num_values, where), number(j, "num-noise", d.num_noise, where)},
            where);
    }
    throw Error(where + "task '" + name + "' is not known: needle");
}

int Task::token_id(const std::string& name) const {
    for (int id = 0; id < vocab_size(); id++) {
        if (token_name(id) == name) { return id; }
    }
    throw Error("'" + name + "' is not a token of the " + this->name() + " task (tokens are " +
                token_name(0) + " to " + token_name(vocab_size() - 1) + ")");
}

std::string token_text(const Task& task, const int* tokens, size_t count) {
    std::string out;
    for (size_t i = 0; i < count; i++) {
        if (i) { out += ' '; }
        out += task.token_name(tokens[i]);
    }
    return out;
}
