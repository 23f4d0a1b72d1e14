#include "train/inspect/inspect.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/progress.h"
#include "train/display/numbers.h"
#include "train/inspect/answer_paths.h"
#include "train/inspect/inspect_page.h"
#include "train/inspect/paths_figure.h"
#include "train/options/options.h"
#include "train/run/prompt.h"
#include "train/run/scorer.h"
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

namespace moba {

using nlohmann::json;

namespace {

// The layers or heads that the option names, sorted and without repetition; all if it names none.
std::vector<int> pick(const char* option, std::vector<int> named, int count) {
    if (named.empty()) {
        named.resize(count);
        std::iota(named.begin(), named.end(), 0);
    }
    std::sort(named.begin(), named.end());
    named.erase(std::unique(named.begin(), named.end()), named.end());
    if (named.back() >= count) {
        throw Error(std::string(option) + " " + std::to_string(named.back()) + ": the model has only 0 to " +
                    std::to_string(count - 1));
    }
    return named;
}

// Writes query by query: the text of a long prompt's views could fill the memory. "": writes nothing.
class JsonFile {
  public:
    JsonFile(const std::string& path, const json& head) {
        if (path.empty()) { return; }
        out_.emplace(path);
        write(without_end(head) + ",\n\"views\":[");
    }
    void add_query(const HeadView::Query& q, int t, bool moba) {
        if (!out_) { return; }
        const char* before = t ? ",\n" : heads_ ? ",\n{\"queries\":[\n" : "\n{\"queries\":[\n";
        write(before + query_json(q, t, moba).dump());
    }
    void end_head(const HeadView& v, const Inspection& about) {
        if (!out_) { return; }
        write("],\n" + head_json(v, about.question, about.source).dump().substr(1));
        heads_++;
    }
    void finish() {
        if (!out_) { return; }
        write("]}\n");
        out_->finish();
    }

  private:
    static std::string without_end(const json& object) {
        const std::string text = object.dump();
        return text.substr(0, text.size() - 1);
    }
    void write(const std::string& text) { out_->write(text.data(), text.size()); }
    std::optional<FileWriter> out_;
    int heads_ = 0;
};

constexpr int longest_whole = 8192;  // tokens

std::string view_line(const HeadView& v, const Inspection& about) {
    const std::string text = formatted("layer %d head %d: reads the keys with %s of full attention's weight",
                                       v.layer, v.head, percent(v.mass_kept()).c_str());
    if (!about.is_test()) { return text; }
    return text + ", the question " + (sees(v, about.question, about.source) ? "sees" : "does not see") +
           " the answer";
}

template <class E>
void find_paths(Inspection& about, const Model<E>& model, StatusLine& status) {
    const int L = model.config().num_layers;
    std::optional<AnswerPaths> paths;
    for (int l = L - 1; l >= 0; l--) {
        status.show("paths of the answer: layer " + std::to_string(l) + ", down to 0");
        const AttentionView v = view_attention(model, l);
        if (!paths) { paths.emplace(v.seqs, about.question, about.source); }
        paths->add(v, l);
    }
    about.reached = paths->reached();
    about.paths = paths->best();
    for (int hops = 1; hops <= L; hops++) { about.totals.push_back(paths->total(hops)); }
    const std::string totals = totals_text(about.totals);
    status.line(std::string("the answer ") + (about.reached ? "can" : "cannot") +
                " reach the question through the tokens that are read" +
                (totals.empty() ? "" : "; weight of the paths: " + totals));
    for (const Path& p : about.paths) { status.line("  " + path_text(p, about.tokens)); }
}

json paths_json(const std::vector<Path>& paths) {
    json out = json::array();
    for (const Path& p : paths) {
        json hops = json::array();
        for (const Hop& h : p.hops) {
            hops.push_back(
                {{"layer", h.layer}, {"head", h.head}, {"from", h.from}, {"to", h.to}, {"weight", h.weight}});
        }
        out.push_back({{"weight", p.weight}, {"hops", hops}});
    }
    return out;
}

template <class E>
int inspect(const InspectOptions& o) {
    const ModelFolder folder = open_model(o.model);
    Config config = folder.config;
    swap_attention(config, o.attention, o.block_size, o.top_k);
    const std::vector<int> layers = pick("--layer", o.layers, config.num_layers),
                           heads = pick("--head", o.heads, config.num_heads);
    const TokenText token_text(folder, o.task);
    PromptSource source = read_prompt(o.prompt);
    source.seed = o.seed;
    source.seq_len = o.seq_len;
    source.depth = o.depth;
    const Prompt prompt = make_prompt(source, folder, token_text);
    if (o.out.empty()) { throw Error("--out is empty: name a file for the page"); }
    check_writable(o.out);
    check_writable(o.json);
    const int T = (int)prompt.tokens.size(), views = (int)(layers.size() * heads.size());
    const int question = prompt.answer.empty() ? -1 : T - 1;
    const int smallest = std::max(1, config.block_sizes().smallest());
    const PageRows rows(T, question, (size_t)views * ceil_div(T, smallest));
    StatusLine status;
    status.show("the model reads " + std::to_string(T) + " tokens");
    Scorer<E> scorer(folder, config, T, 1, T, parse_device(o.device), Scorer<E>::Layers::kept);
    Batch batch;
    batch.add({prompt.tokens, std::vector<int>(T, ignored), std::vector<int>(T, -1)});
    if (!prompt.answer.empty()) { batch.targets.back() = prompt.answer[0]; }
    const auto scores = scorer.run(batch);

    Inspection about;
    about.model = o.model;
    about.layers = layer_names(config);
    TokenStream words(token_text);
    for (int id : prompt.tokens) {
        about.text.push_back(words.write(id));
        about.tokens.push_back(token_text.name(id));
    }
    json head = {{"model", o.model},       {"precision", o.precision}, {"layers", about.layers},
                 {"tokens", about.tokens}, {"ids", prompt.tokens},     {"question", nullptr},
                 {"source", nullptr}};
    if (!prompt.answer.empty()) {
        head["question"] = about.question = T - 1;
        head["source"] = about.source = prompt.source;
        head["answer"] = about.answer = token_text.name(prompt.answer[0]);
        head["probability"] = about.probability = std::exp(-(double)scores.losses.back());
        head["right"] = about.right = scores.correct.back();
        find_paths(about, scorer.model(), status);
        head["reached"] = about.reached;
        head["totals"] = about.totals;
        head["paths"] = paths_json(about.paths);
    }
    JsonFile file(o.json, head);
    // of a long prompt only the queries that are drawn
    const auto wanted = [&](int t) { return !o.json.empty() || T <= longest_whole || rows.draws(t); };
    InspectPage page(about, rows);
    const double begin = now_ms();
    int finished = 0;
    for (int l : layers) {
        const AttentionView attention = view_attention(scorer.model(), l);
        const bool moba = attention.shape.kind == AttentionKind::moba;
        for (int h : heads) {
            const HeadView v = view_head(
                attention, l, h,
                [&](int t, HeadView::Query& q) {
                    file.add_query(q, t, moba);
                    if (!rows.draws(t)) { q.release(); }
                    // of all pairs of tokens
                    const double share = (finished + std::pow((t + 1.0) / T, 2)) / views;
                    status.show("layer " + std::to_string(l) + " head " + std::to_string(h) + ": " +
                                percent(share) + " of all heads, about " +
                                readable_seconds((now_ms() - begin) / 1000 * (1 / share - 1)) + " left");
                },
                wanted);
            finished++;
            file.end_head(v, about);
            ChoiceOverlap overlap;
            overlap.add(attention, h);
            page.add(v, overlap);
            status.line(view_line(v, about));
        }
    }
    file.finish();
    write_file(o.out, page.html());
    status.line(o.out);
    return 0;
}

}  // namespace

int run_inspect(const InspectOptions& o) {
    return with_precision(o.precision, [&](auto e) { return inspect<decltype(e)>(o); });
}

}  // namespace moba
