#include "train/options/option_builder.h"
#include "moba/core/decimal.h"
#include "train/options/suggest.h"
#include <algorithm>
#include <sstream>

namespace moba {

namespace {

constexpr size_t help_width = 80, name_width = 30;

/* One option: name and unit on the left; on the right its sentence and its default, wrapped. CLI11's own text
   adds the limits of every value, most of which nobody needs, and does not wrap in every version. */
class PlainFormatter : public CLI::Formatter {
  public:
    std::string make_option(const CLI::Option* o, bool is_positional) const override {
        std::string left = "  " + o->get_name(is_positional);
        const std::string type = o->get_type_name(), unit = type.substr(0, type.find(':'));
        if (o->get_type_size() != 0 && !is_positional) { left += " " + unit; }
        std::string text = o->get_description();
        const std::string value = o->get_default_str();
        if (o->get_required()) {
            text += " Required.";
        } else if (o->get_type_size() != 0 && !value.empty() && !says_what_zero_is(text, value)) {
            text += " Default: " + value + ".";
        }
        return help_columns(left, text);
    }

    std::string make_group(std::string title, bool is_positional,
                           std::vector<const CLI::Option*> options) const override {
        std::string out = "\n" + title + ":\n";
        for (const CLI::Option* o : options) { out += make_option(o, is_positional); }
        return out;
    }

  private:
    // "0: the task's default." needs no "Default: 0."
    static bool says_what_zero_is(const std::string& text, const std::string& value) {
        return value == "0" && text.find(" 0: ") != std::string::npos;
    }
};

}  // namespace

std::string help_columns(std::string left, const std::string& text) {
    std::string out;
    if (left.size() + 1 > name_width) {
        out = left + "\n";
        left.clear();
    }
    std::istringstream words(text);
    std::string line = left + std::string(name_width - left.size(), ' ');
    bool empty = true;
    for (std::string word; words >> word; empty = false) {
        if (!empty && line.size() + 1 + word.size() > help_width) {
            out += line + "\n";
            line = std::string(name_width, ' ');
            empty = true;
        }
        line += (empty ? "" : " ") + word;
    }
    return out + line + "\n";
}

void start_options(CLI::App& app) {
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.formatter(std::make_shared<PlainFormatter>());
    app.get_option("--help")->description("Print this help.");
}

void group(CLI::App& app, const char* title) { app.option_defaults()->group(title); }

CLI::Option* add_flag(CLI::App& app, const char* name, bool& value, const std::string& help) {
    CLI::Option* o = app.add_flag(name, value, help)->group(app.option_defaults()->get_group());
    o->default_function([&value] { return option_text(value); });
    return o;
}

CLI::Option* add_files(CLI::App& app, const char* name, std::vector<std::string>& value,
                       const std::string& help) {
    const auto read = [&value, name](const std::vector<std::string>& words) {
        value.clear();
        for (const std::string& w : words) {
            for (const std::string& file : split_files(w)) {
                if (file.empty()) { throw CLI::ValidationError(name, "'" + w + "': a file name is empty"); }
                value.push_back(file);
            }
        }
        return true;
    };
    CLI::Option* o = app.add_option(name, CLI::callback_t(read), help)->type_name("FILE,...")->take_all();
    o->expected(CLI::detail::expected_max_vector_size)->group(app.option_defaults()->get_group());
    o->default_function([&value] { return files_text(value); });
    return o->capture_default_str();
}

CLI::Validator whole_number(int64_t lo, uint64_t hi) {
    return CLI::Validator(
        [=](std::string& word) -> std::string {
            const std::optional<int64_t> n = parse_whole<int64_t>(word);
            const std::optional<uint64_t> large = parse_whole<uint64_t>(word);
            if (n && *n >= lo && (*n < 0 || (uint64_t)*n <= hi)) {
                word = std::to_string(*n);
            } else if (!n && large && *large <= hi) {
                word = std::to_string(*large);
            } else {
                return "'" + word + "' is not a whole number in decimal from " + std::to_string(lo) + " to " +
                       std::to_string(hi);
            }
            return "";
        },
        "");
}
CLI::Validator real_number() {
    return CLI::Validator(
        [](std::string& word) -> std::string {
            const std::optional<double> x = parse_decimal(word);
            if (!x) { return "'" + word + "' is not a number in decimal"; }
            word = option_text(*x);
            return "";
        },
        "");
}
CLI::Validator between(double lo, double hi) {
    char text[64];
    std::snprintf(text, sizeof text, "in [%g - %g]", lo, hi);
    const std::string range = text;
    return CLI::Validator(
        [=](const std::string& word) {
            const std::optional<double> x = parse_decimal(word);
            return x && *x >= lo && *x <= hi ? "" : "Value " + word + " not " + range;
        },
        range);
}
CLI::Validator whole(int lo, int hi) {
    const std::string range = "in [" + std::to_string(lo) + " - " + std::to_string(hi) + "]";
    return CLI::Validator(
        [=](const std::string& word) {
            const std::optional<int> n = parse_whole<int>(word);
            return n && *n >= lo && *n <= hi ? "" : "Value " + word + " not " + range;
        },
        range);
}
CLI::Validator one_of(std::vector<std::string> words) {
    return CLI::Validator(
        [words](std::string& word) -> std::string {
            if (std::find(words.begin(), words.end(), word) != words.end()) { return ""; }
            std::string all;
            for (const std::string& w : words) { all += w.empty() ? "" : (all.empty() ? "" : ", ") + w; }
            return word + " is not one of " + all + did_you_mean(word, words);
        },
        "");
}
CLI::Validator task_or_empty() {
    std::vector<std::string> words = task_names();
    words.push_back("");
    return one_of(words);
}

void add_device(CLI::App& app, std::string& device, std::string& precision) {
    add(app, "--device", device, "NAME", "cpu, gpu, or auto: a GPU if there is one.")
        ->check(one_of({"cpu", "gpu", "auto"}));
    add(app, "--precision", precision, "TYPE",
        "fp32 or bf16. With bf16, activations and the weights that products read are bf16; master weights, "
        "sums "
        "and files stay fp32.")
        ->check(one_of({"fp32", "bf16"}));
}

void add_no_graph(CLI::App& app, bool& value) {
    add_flag(app, "--no-graph", value,
             "On a GPU, launch every operation of every step. Without this flag, steps of the same shape are "
             "recorded once and replayed; the results have the same bits.");
}

void add_timeout(CLI::App& app, double& seconds) {
    add(app, "--timeout", seconds, "SECONDS",
        "With mpirun or srun: if a process waits so long for another one, all end.")
        ->check(between(0.1, 1e6));
}

void add_attention_impl(CLI::App& app, std::string& value) {
    add(app, "--attention-impl", value, "NAME", "Attention kernels: fast, or naive (the plain definition).")
        ->check(one_of({"fast", "naive"}));
}

void add_model_path(CLI::App& app, std::string& path) {
    add(app, "--model", path, "DIR",
        "A run's folder (its latest checkpoint), a checkpoint, a Llama folder in Hugging Face's format, or a "
        "Llama in "
        "a .gguf file.")
        ->required();
}

void add_attention_swap(CLI::App& app, std::string& attention, int& block_size, int& top_k) {
    add(app, "--attention", attention, "KIND",
        "moba or full: use this kind in all layers but windows; the weights fit both. Empty: as trained.")
        ->check(one_of({"moba", "full"}));
    add(app, "--block-size", block_size, "TOKENS", "Block size S for --attention moba. 0: the model's own.")
        ->check(whole(0, 1 << 16));
    add(app, "--top-k", top_k, "BLOCKS", "Blocks per query K for --attention moba. 0: the model's own.")
        ->check(whole(0, max_top_k));
}

void add_rope_scaling(CLI::App& app, std::string& scaling) {
    add(app, "--rope-scaling", scaling, "SCALING",
        "Scale RoPE for texts longer than those of the training: linear:F (positions are divided by F) or "
        "yarn:F:ORIGINAL (ORIGINAL: the trained length). Empty: as trained.");
}

}  // namespace moba
