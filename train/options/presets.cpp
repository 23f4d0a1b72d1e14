#include "train/options/presets.h"
#include <cstdlib>

namespace moba {

namespace {

using Values = std::vector<std::pair<std::string, std::string>>;  // option, value

struct Size {
    const char* name;
    Values model;
    Values training;
    int batch_tokens;  // of a micro-batch
};
const Size sizes[] = {
    {"tiny",
     {{"hidden-size", "160"}, {"num-layers", "5"}, {"num-heads", "5"}, {"intermediate-size", "448"}},
     {{"lr", "0.003"}},
     4096},
    {"small",
     {{"hidden-size", "384"}, {"num-layers", "6"}, {"num-heads", "6"}, {"intermediate-size", "1024"}},
     {{"lr", "0.001"}},
     8192},
    {"124m",
     {{"hidden-size", "768"}, {"num-layers", "12"}, {"num-heads", "12"}, {"intermediate-size", "2048"}},
     {{"lr", "0.0006"}, {"grad-accum", "8"}},
     8192},
};
constexpr size_t help_width = 80;
const char* const text_size = "tiny";  // of a model that learns a text

const Values text = {{"top-k", "4"},        {"embedding-std", "0.02"}, {"lr-schedule", "cosine"},
                     {"warmup", "100"},     {"weight-decay", "0.1"},   {"steps", "1000"},
                     {"eval-samples", "64"}};
const Values fine_tuning = {{"block-size", "64"}, {"top-k", "4"},   {"batch-size", "1"},
                            {"grad-accum", "4"},  {"lr", "3e-05"},  {"lr-schedule", "cosine"},
                            {"warmup", "20"},     {"steps", "200"}, {"eval-samples", "16"}};
// --seq-len of a text: so many times what a query attends (K x S), and at most this
constexpr int lengths_of_choice = 4, longest_preset = 1 << 16;

const Size& find_size(const std::string& name) {
    for (const Size& s : sizes) {
        if (name == s.name) { return s; }
    }
    REQUIRE(false, "--size %s", name.c_str());
    std::abort();
}

std::string value_of(const Values& values, const std::string& name) {
    for (const auto& [option, value] : values) {
        if (option == name) { return value; }
    }
    return "";
}

class Words {
  public:
    explicit Words(const TrainOptions& o) : o_(o) {}
    // A later value of the same option wins.
    void add(const Values& values) {
        for (const auto& [name, value] : values) { add(name, value); }
    }
    void add(const std::string& name, const std::string& value) {
        const bool replaced = (name == "steps" && o_.has("epochs")) ||
                              ((name == "batch-size" || name == "grad-accum") && o_.has("batch-size"));
        if (!o_.has(name) && !replaced) { words_.push_back("--" + name + "=" + value); }
    }
    const std::vector<std::string>& words() const { return words_; }

  private:
    const TrainOptions& o_;
    std::vector<std::string> words_;
};

bool has_sizes(const TrainOptions& o) {
    for (const char* name : {"hidden-size", "num-layers", "num-heads", "head-dim", "intermediate-size"}) {
        if (o.has(name)) { return true; }
    }
    return false;
}

// Keys that a query attends: block-size x top-k. `defaults`: for what neither options nor model decide.
int64_t attended(const TrainOptions& o, const Values& defaults, const Config* init) {
    const bool keeps = init && init->has(AttentionKind::moba);  // it has learnt to choose such blocks
    const auto pick = [&](const char* name, int option, int Config::*of_model) {
        const std::string value = value_of(defaults, name);
        return o.has(name) || (!keeps && value.empty()) ? option : keeps ? init->*of_model : std::stoi(value);
    };
    const Config& c = o.model.config;
    return (int64_t)pick("block-size", c.block_size, &Config::block_size) *
           pick("top-k", c.top_k, &Config::top_k);
}

}  // namespace

std::vector<std::string> size_names() {
    std::vector<std::string> names;
    for (const Size& s : sizes) { names.push_back(s.name); }
    return names;
}

std::vector<std::string> size_options(const std::string& size) {
    std::vector<std::string> names{"batch-size"};
    for (const Values* values : {&find_size(size).model, &find_size(size).training}) {
        for (const auto& [name, value] : *values) { names.push_back(name); }
    }
    return names;
}

std::vector<std::string> preset_words(const TrainOptions& o, const Config* init) {
    Words words(o);
    const bool learns_text = !o.data.empty();
    int T = o.seq_len;
    if (learns_text) {
        const Values& defaults = init ? fine_tuning : text;
        words.add(defaults);
        if (!o.has("seq-len")) {
            const int64_t keys = attended(o, defaults, init);
            T = (int)std::clamp<int64_t>(lengths_of_choice * keys, 1, longest_preset);
            words.add("seq-len", std::to_string(T));
        }
    }
    const bool text_model = learns_text && !init && !has_sizes(o);
    if (o.size.empty() && !text_model) { return words.words(); }
    const Size& size = find_size(o.size.empty() ? text_size : o.size);
    words.add(size.model);
    words.add(size.training);
    words.add("batch-size", std::to_string(std::max(1, size.batch_tokens / T)));
    return words.words();
}

std::string preset_help() {
    std::string out;
    const auto add = [&](const std::string& title, const Values& values, const std::string& more) {
        std::string line = title;
        const auto put = [&](const std::string& word) {
            if (line.size() + 1 + word.size() > help_width) {
                out += line + "\n";
                line = "    " + word;
            } else {
                line += " " + word;
            }
        };
        for (const auto& [name, value] : values) { put("--" + name + " " + value); }
        for (size_t i = 0, end; i < more.size(); i = end + 1) {
            end = std::min(more.find(' ', i), more.size());
            put(more.substr(i, end - i));
        }
        out += line + "\n";
    };
    out = "Other defaults, for what is not given:\n";
    add("with --data:", text, std::string("--size ") + text_size + " --seq-len 4 x top-k x block-size");
    add("with --data and --init-from:", fine_tuning, "--seq-len 4 x top-k x block-size");
    for (const Size& s : sizes) {
        Values all = s.model;
        all.insert(all.end(), s.training.begin(), s.training.end());
        add(std::string("--size ") + s.name + ":", all,
            "--batch-size " + std::to_string(s.batch_tokens) + " / seq-len");
    }
    return out;
}

}  // namespace moba
