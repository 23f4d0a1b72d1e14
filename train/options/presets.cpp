#include "train/options/presets.h"
#include <cstdlib>
#include <map>

namespace moba {

namespace {

using Values = std::vector<std::pair<std::string, std::string>>;  // option, value

struct Size {
    const char* name;
    int head_dim;
    Values model;
    Values training;
    int batch_tokens;  // of a micro-batch
};
const Size sizes[] = {
    {"tiny",
     32,
     {{"hidden-size", "160"}, {"num-layers", "5"}, {"num-heads", "5"}, {"intermediate-size", "448"}},
     {{"lr", "0.003"}},
     4096},
    {"small",
     64,
     {{"hidden-size", "384"}, {"num-layers", "6"}, {"num-heads", "6"}, {"intermediate-size", "1024"}},
     {{"lr", "0.001"}},
     8192},
    {"124m",
     64,
     {{"hidden-size", "768"}, {"num-layers", "12"}, {"num-heads", "12"}, {"intermediate-size", "2048"}},
     {{"lr", "0.0006"}, {"grad-accum", "8"}},
     8192},
};
const char* const text_size = "tiny";  // of a model that learns a text

const Values text = {{"top-k", "4"},        {"embedding-std", "0.02"}, {"lr-schedule", "cosine"},
                     {"warmup", "100"},     {"weight-decay", "0.1"},   {"steps", "1000"},
                     {"eval-samples", "64"}};
const Values fine_tuning = {{"block-size", "64"}, {"top-k", "4"},   {"batch-size", "1"},
                            {"grad-accum", "4"},  {"lr", "0.0001"}, {"lr-schedule", "cosine"},
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

// The values that options get if they are not given, by name; a later one replaces an earlier one.
class Presets {
  public:
    explicit Presets(const TrainOptions& o) : o_(o) {}
    void set(const std::string& name, const std::string& value) { values_[name] = value; }
    void set(const std::string& name, int value) { set(name, std::to_string(value)); }
    void set(const Values& values) {
        for (const auto& [name, value] : values) { set(name, value); }
    }
    // The value of a whole number: as given, else set here, else the option's own default.
    int number(const std::string& name, int option) const {
        const auto at = values_.find(name);
        return o_.has(name) || at == values_.end() ? option : std::stoi(at->second);
    }
    void drop(const std::string& name) { values_.erase(name); }
    std::vector<std::string> words() const {
        std::vector<std::string> out;
        for (const auto& [name, value] : values_) {
            if (!o_.has(name)) { out.push_back("--" + name + "=" + value); }
        }
        return out;
    }

  private:
    const TrainOptions& o_;
    std::map<std::string, std::string> values_;
};

void set_size(Presets& presets, const Size& size, const TrainOptions& o) {
    presets.set(size.model);
    presets.set(size.training);
    const int T = presets.number("seq-len", o.seq_len);
    presets.set("batch-size", std::max(1, size.batch_tokens / T));
    if (o.has("hidden-size")) {  // heads as wide as this size has them, and the usual MLP
        const int C = o.model.config.hidden_size;
        presets.set("num-heads", C % size.head_dim == 0 ? C / size.head_dim : 1);
        presets.drop("intermediate-size");
    }
}

}  // namespace

std::vector<std::string> size_names() {
    std::vector<std::string> names;
    for (const Size& s : sizes) { names.push_back(s.name); }
    return names;
}

std::vector<std::string> size_options(const std::string& size) {
    std::vector<std::string> names{"batch-size", "grad-accum", "num-kv-heads", "head-dim"};
    for (const Values* values : {&find_size(size).model, &find_size(size).training}) {
        for (const auto& [name, value] : *values) { names.push_back(name); }
    }
    return names;
}

std::vector<std::string> preset_words(const TrainOptions& o, const Config* init) {
    Presets presets(o);
    const bool learns_text = !o.data.empty();
    if (learns_text) { presets.set(init ? fine_tuning : text); }
    if (init && init->has(AttentionKind::moba)) {  // a model trained with MoBA keeps its S and K
        presets.set("block-size", init->block_size);
        presets.set("top-k", init->top_k);
    }
    if (learns_text) {
        const Config& c = o.model.config;
        const int64_t attended =
            (int64_t)presets.number("block-size", c.block_size) * presets.number("top-k", c.top_k);
        presets.set("seq-len", (int)std::clamp<int64_t>(lengths_of_choice * attended, 1, longest_preset));
    }
    const std::string size = !o.size.empty() ? o.size : learns_text && !init ? text_size : "";
    if (!size.empty()) { set_size(presets, find_size(size), o); }
    // what the user has set in another way
    if (o.epochs > 0) { presets.drop("steps"); }
    if (o.has("batch-size")) { presets.drop("grad-accum"); }
    if (o.has("lr-decay-steps")) { presets.drop("lr-schedule"); }
    return presets.words();
}

std::vector<PresetHelp> preset_help() {
    const auto text_of = [](const Values& values) {
        std::string out;
        for (const auto& [name, value] : values) { out += "--" + name + " " + value + " "; }
        return out;
    };
    const std::string length = "--seq-len = 4 * top-k * block-size";
    std::vector<PresetHelp> out = {
        {"--data", text_of(text) + "--size " + text_size + " " + length},
        {"--data and --init-from", text_of(fine_tuning) + length},
    };
    for (const Size& s : sizes) {
        out.push_back({std::string("--size ") + s.name,
                       text_of(s.model) + text_of(s.training) +
                           "--batch-size = " + std::to_string(s.batch_tokens) + " / seq-len"});
    }
    return out;
}

}  // namespace moba
