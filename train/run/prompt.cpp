#include "train/run/prompt.h"
#include "moba/core/decimal.h"
#include "train/core/file.h"
#include "train/core/utf8.h"
#include <algorithm>
#include <sstream>
#include <unordered_map>

namespace moba {

std::unique_ptr<Task> open_task(const ModelFolder& folder, const std::string& name, int pairs,
                                int pair_every) {
    TaskSettings settings;
    if (folder.task.is_null()) {
        settings.name = name;
    } else {
        settings = task_from_json(folder.task, folder.path + ": ");
    }
    if (!name.empty() && name != settings.name) {
        throw Error("--task " + name + ": the model was trained on the task " + settings.name +
                    "; leave --task out");
    }
    if (pairs) { settings.pairs = pairs; }
    if (pair_every) { settings.pair_every = pair_every; }
    std::unique_ptr<Task> task = make_task(settings, pairs || pair_every ? "" : folder.path + ": ");
    if (task->vocab_size() > folder.config.vocab_size) {
        throw Error(folder.path + ": its vocabulary of " + std::to_string(folder.config.vocab_size) +
                    " tokens is too small for the " + settings.name + " task, which has " +
                    std::to_string(task->vocab_size()));
    }
    return task;
}

TokenText::TokenText(const ModelFolder& folder, const std::string& task_name) {
    if (!folder.task.is_null() || !task_name.empty()) {
        task = open_task(folder, task_name);
    } else if (!folder.tokenizer.empty()) {
        tokenizer_ = std::make_unique<Tokenizer>(folder.tokenizer);
    }
}

std::vector<int> TokenText::parse_chat(const std::string& text) const {
    if (!tokenizer_) { throw Error("--chat: the model has no tokenizer to read text with"); }
    return tokenizer_->encode(text, SpecialNames::tokens);
}

int TokenText::id_of(const std::string& name) const { return tokenizer_ ? tokenizer_->id_of(name) : -1; }

std::vector<int> TokenText::parse(const std::string& text) const {
    if (tokenizer_) {
        std::vector<int> ids = tokenizer_->begin_tokens();
        for (int id : parse_chat(text)) { ids.push_back(id); }
        return ids;
    }
    if (!task) {
        throw Error(
            "--prompt: the model folder names no task and no tokenizer to read text with; use --prompt-ids");
    }
    std::unordered_map<std::string, int> names;
    for (int id = 0; id < task->vocab_size(); id++) { names.emplace(task->token_name(id), id); }
    std::vector<int> ids;
    std::stringstream in(text);
    for (std::string word; in >> word;) {
        const auto at = names.find(word);
        ids.push_back(at == names.end() ? task->token_id(word) : at->second);
    }
    return ids;
}

std::string TokenText::write(const std::vector<int>& ids) const { return TokenStream(*this).write(ids); }

TokenStream::TokenStream(const TokenText& text) : text_(&text) {
    if (text.tokenizer_) { stream_.emplace(*text.tokenizer_); }
}

std::string TokenStream::write(int id) {
    if (stream_) { return stream_->add(id); }
    const bool named = text_->task && id < text_->task->vocab_size();
    return (std::exchange(first_, false) ? "" : " ") +
           (named ? text_->task->token_name(id) : std::to_string(id));
}

std::string TokenStream::write(const std::vector<int>& ids) {
    std::string out;
    for (int id : ids) { out += write(id); }
    return out;
}

std::string TokenText::name(int id) const {
    const std::string text = tokenizer_ ? tokenizer_->text(id) : write({id});
    if (text.empty()) { return "#" + std::to_string(id); }  // such as the end of a document
    return visible_text(text);
}

static std::vector<int> parse_ids(const std::string& text, const std::string& where) {
    std::vector<int> ids;
    std::string words = text;
    std::replace(words.begin(), words.end(), ',', ' ');
    std::stringstream in(words);
    for (std::string word; in >> word;) {
        const std::optional<int> id = parse_whole<int>(word);
        if (!id) { throw Error(where + ": '" + word.substr(0, 60) + "' is not a token id"); }
        ids.push_back(*id);
    }
    return ids;
}

PromptSource read_prompt(const PromptOptions& o) {
    PromptSource p{.text = o.text, .ids = o.ids};
    const std::string& file = o.file.empty() ? o.ids_file : o.file;
    if (file.empty()) { return p; }
    const std::string where = file == "-" ? "standard input" : file, text = read_all(file);
    if (text.empty()) { throw Error(where + ": is empty, there is no prompt in it"); }
    if (!o.file.empty()) {
        p.text = text;
    } else {
        p.ids = parse_ids(text, where);
        if (p.ids.empty()) { throw Error(where + ": has no token ids"); }
    }
    return p;
}

static Prompt draw_prompt(const PromptSource& from, const ModelFolder& folder, const Task& task) {
    const int trained = std::min(folder.trained_length, 1 << 20);
    const int T = from.seq_len ? from.seq_len : trained;
    check_test_length(
        task, T,
        (from.seq_len ? "--seq-len " : folder.path + "/config.json: max_position_embeddings = ") +
            std::to_string(T));
    if (from.depth >= 0 && !task.has_depth()) {
        throw Error("--depth: a test of the " + task.settings().name +
                    " task has no depth; leave --depth out");
    }
    Rng rng(from.seed, Purpose::eval_data, 0);
    const double drawn = rng.uniform();
    Sample test;
    task.draw_test(rng, T, from.depth >= 0 ? from.depth : drawn, test);
    const auto wanted = [&](size_t t) { return test.targets[t] != ignored; };
    size_t question = task.one_answer() ? 0 : test.targets.size() - 1;
    while (!wanted(question)) { question += task.one_answer() ? 1 : -1; }
    Prompt p;
    p.tokens.assign(test.tokens.begin(), test.tokens.begin() + question + 1);
    p.source = test.sources[question];
    for (; question < test.targets.size() && wanted(question); question++) {
        p.answer.push_back(test.targets[question]);
    }
    return p;
}

Prompt make_prompt(const PromptSource& from, const ModelFolder& folder, const TokenText& text) {
    Prompt p;
    p.tokens = from.ids;
    if (p.tokens.empty() && !from.text.empty()) { p.tokens = text.parse(from.text); }
    if (p.tokens.empty() && text.task) { p = draw_prompt(from, folder, *text.task); }
    if (p.tokens.empty()) { throw Error("there is no prompt: use --prompt or --prompt-ids"); }
    if (p.tokens.size() > 1 << 24) {
        throw Error("prompt: " + std::to_string(p.tokens.size()) + " tokens: must be at most 2^24");
    }
    for (int id : p.tokens) {
        if (id < 0 || id >= folder.config.vocab_size) {
            throw Error("prompt: token id " + std::to_string(id) + ": must be between 0 and " +
                        std::to_string(folder.config.vocab_size - 1));
        }
    }
    return p;
}

std::string folded_test(const Prompt& prompt, const TokenText& text) {
    constexpr int most_shown = 3;  // noise tokens in a row
    const std::vector<int>& tokens = prompt.tokens;
    const int count = (int)tokens.size(), source = prompt.source;
    const int first = source > 0 && tokens[source - 1] == tokens.back() ? source - 1 : source;
    std::string out;
    for (int i = 0; i < count;) {
        int end = i;
        while (end < count && end != first && end != source && text.task->is_noise(tokens[end])) { end++; }
        out += i ? " " : "";
        if (end - i > most_shown) {
            out += "(" + std::to_string(end - i) + " noise)";
            i = end;
        } else {
            out += (i == first ? "[" : "") + text.name(tokens[i]) + (i == source ? "]" : "");
            i++;
        }
    }
    return out;
}

}  // namespace moba
