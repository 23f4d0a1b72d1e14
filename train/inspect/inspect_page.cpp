#include "train/inspect/inspect_page.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/display/svg_map.h"
#include "train/display/svg_style.h"
#include "train/inspect/inspect_script.h"
#include "train/inspect/paths_figure.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

static const char* style = R"(
#readout{position:fixed;left:0;right:0;bottom:0;min-height:5.6em;padding:6px 14px;background:var(--card);border-top:2px solid var(--rule);
font-size:.85rem;line-height:1.4}#readout div{max-width:1150px;margin:auto}#readout .tokens{color:var(--soft)}
body{padding-bottom:9em}svg[id^=v]{touch-action:pan-y;cursor:crosshair}
.at{fill:none;stroke:var(--ink);stroke-width:1.5px;vector-effect:non-scaling-stroke;pointer-events:none}
.cards{grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr))}
mark{background:var(--warn);color:inherit;outline:1px solid var(--soft);border-radius:3px;padding:0 2px}
.scale{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.85rem}.scale svg{width:13px;height:13px;margin:0 3px 0 7px;vertical-align:-2px}
@media print{#readout{display:none}}
)";

// The colour follows the square root of the weight, so that a weight of 1% can be seen.
static float shade(float weight) { return std::sqrt(weight); }
// A chosen block is at least this dark, however small its weight.
constexpr float palest_choice = 0.2f;

constexpr int most_rows = 512, fewest_rows = 32;
constexpr size_t cell_bytes = 24;  // about: of a query and a block in both maps and in the script's data

PageRows::PageRows(int T, int question, size_t columns) : last_(question >= 0 ? question : T - 1) {
    // a row has half of the columns on average
    const size_t fit = columns ? max_page_bytes / (cell_bytes * columns / 2 + 1) : most_rows;
    if (fit < (size_t)std::min(T, fewest_rows)) {
        throw Error("the page would be larger than " + std::to_string(max_page_bytes >> 20) +
                    " MB; select fewer heads with --layer and --head");
    }
    step_ = ceil_div(T, (int)std::min<size_t>(fit, most_rows));
}

std::vector<int> PageRows::list(int T) const {
    std::vector<int> out;
    for (int t = last_ % step_; t < T; t += step_) { out.push_back(t); }
    return out;
}

InspectPage::InspectPage(Inspection about)
    : InspectPage(about, PageRows((int)about.tokens.size(), about.question)) {}
InspectPage::InspectPage(Inspection about, const PageRows& rows)
    : about_(std::move(about)), rows_(rows), drawn_(rows.list((int)about_.tokens.size())) {}

std::string InspectPage::matrix(const HeadView& v, Shown shown) const {
    const bool full = shown == Shown::full_attention;
    const bool moba = v.kind == AttentionKind::moba;
    const int columns = v.queries.back().own + 1;
    DenseMap m{.title = full   ? "Full attention, same queries and keys"
                        : moba ? "MoBA: the chosen blocks"
                               : "What the layer reads",
               .rows = (int)drawn_.size(),
               .columns = columns,
               .value = std::vector<float>(drawn_.size() * columns, NAN),
               .row_label = "query token",
               .column_label = "key token, in blocks of " + std::to_string(v.block_size),
               .row_unit = (double)rows_.step(),
               .column_unit = (double)v.block_size,
               .id = "v" + std::to_string(num_views_) + (full ? "f" : "m"),
               .other_hue = std::vector<char>(drawn_.size() * columns)};
    for (size_t r = 0; r < drawn_.size(); r++) {
        const HeadView::Query& q = v.queries[drawn_[r]];
        for (int n = 0; n <= q.own; n++) {
            const size_t cell = r * columns + n;
            if (full) {
                m.value[cell] = shade(q.full_weights[n]);
                m.other_hue[cell] = moba ? !q.chose(n) : q.weights[n] == 0;
            } else if (!moba) {
                m.value[cell] = shade(q.weights[n]);
            } else if (q.chose(n)) {
                m.value[cell] = std::max(shade(q.weights[n]), palest_choice);
            }
        }
        if (drawn_[r] == about_.question) { m.row_marks = {{(double)r, "the question"}}; }
    }
    if (about_.source >= 0) {
        m.column_marks = {{(double)v.queries[about_.source].own, "the block with the answer"}};
    }
    return draw_dense_map(m);
}

std::string InspectPage::card(const HeadView& v) const {
    std::string title = "Head " + std::to_string(v.head);
    if (v.kind != AttentionKind::full) {
        title += ": reads the keys with " + percent(v.mass_kept()) + " of full attention's weight";
    }
    if (about_.is_test()) {
        const bool seen = sees(v, about_.question, about_.source);
        const bool own = v.queries[about_.source].own == v.queries[about_.question].own;
        title += v.kind != AttentionKind::moba
                     ? (seen ? ", the question sees the answer" : ", the question does not see the answer")
                 : own  ? ", the answer is in the question's own block"
                 : seen ? ", the question chose the answer's block"
                        : ", the question did not choose the answer's block";
    }
    std::vector<std::string> figures = {matrix(v, Shown::chosen)};
    if (v.kind != AttentionKind::full) { figures.push_back(matrix(v, Shown::full_attention)); }
    return "<h3 id=\"view" + std::to_string(num_views_) + "\">" + html_escape(title) + "</h3>\n" +
           html_cards(figures);
}

// For the script, each row as [chosen, weights, full weights, scores]. `weights` are those of the chosen
// blocks in a moba layer and of all blocks otherwise. Weights count in 1/10000.
std::string InspectPage::data(const HeadView& v) const {
    const bool moba = v.kind == AttentionKind::moba;
    const auto tenthousandths = [](float weight) {
        return std::isnan(weight) ? json() : json(std::lround(1e4 * weight));
    };
    json rows = json::array();
    for (int t : drawn_) {
        const HeadView::Query& q = v.queries[t];
        json weights = json::array(), full = json::array(), scores = json::array();
        for (int n = 0; n <= q.own; n++) {
            if (!moba || q.chose(n)) { weights.push_back(tenthousandths(q.weights[n])); }
            full.push_back(tenthousandths(q.full_weights[n]));
        }
        for (float s : q.scores) { scores.push_back(printed("%.7g", s)); }
        rows.push_back({q.chosen, weights, full, scores});
    }
    return json{{"layer", v.layer}, {"head", v.head}, {"moba", moba}, {"size", v.block_size}, {"rows", rows}}
        .dump();
}

std::vector<std::string> InspectPage::summary_row(const HeadView& v, const ChoiceOverlap& overlap) const {
    const std::string place = std::to_string(v.layer) + ", " + std::to_string(v.head);
    std::vector<std::string> row = {"<a href=\"#view" + std::to_string(num_views_) + "\">" + place + "</a>",
                                    html_escape(about_.layers[v.layer]), percent(v.mass_kept()),
                                    overlap.empty() ? "-" : percent(overlap.same()),
                                    overlap.empty() ? "-" : printed("%.1fx", overlap.extra())};
    if (about_.is_test()) {
        const HeadView::Query& q = v.queries[about_.question];
        const int n = v.queries[about_.source].own;
        row.push_back(sees(v, about_.question, about_.source) ? "yes" : "no");
        row.push_back(v.kind != AttentionKind::moba ? "-"
                      : n == q.own                  ? "own block"
                                   : std::to_string(q.rank(n)) + " of " + std::to_string(q.own));
        row.push_back(percent(q.weights[n]));
        row.push_back(percent(q.full_weights[n]));
    }
    return row;
}

void InspectPage::add(const HeadView& v, const ChoiceOverlap& overlap) {
    const std::string new_card = card(v), new_data = data(v);
    bytes_ += new_card.size() + new_data.size();
    if (bytes_ > max_page_bytes) {
        throw Error("the page would be larger than " + std::to_string(max_page_bytes >> 20) +
                    " MB; select fewer heads with --layer and --head");
    }
    cards_[v.layer] += new_card;
    data_ += (data_.empty() ? "" : ",\n") + new_data;
    summary_.push_back(summary_row(v, overlap));
    chooses_ |= v.kind == AttentionKind::moba;
    windows_ |= v.kind == AttentionKind::window;
    num_views_++;
}

std::string InspectPage::prompt() const {
    // Of a long prompt only the first and last 300 tokens are printed, and 40 on both sides of the source.
    constexpr int ends = 300, around = 40;
    const int T = (int)about_.tokens.size();
    const auto printed_token = [&](int t) {
        return T <= 2 * ends || t < ends || t >= T - ends ||
               (about_.source >= 0 && std::abs(t - about_.source) <= around);
    };
    std::string out;
    for (int t = 0; t < T; t++) {
        if (!printed_token(t)) {
            const int begin = t;
            while (!printed_token(t + 1)) { t++; }
            out += " <em>[" + std::to_string(t + 1 - begin) + " tokens]</em> ";
            continue;
        }
        const std::string& text = about_.text[t];
        const size_t blank = text.size() > 1 && text[0] == ' ';  // a leading space stays outside of the mark
        const std::string token = html_escape(text.substr(blank));
        out += blank ? " " : "";
        const char* role = t == about_.question ? "the question"
                           : t == about_.source ? "the answer"
                                                : nullptr;
        out += role ? "<mark title=\"" + std::string(role) + "\">" + token + "</mark>" : token;
    }
    return "<pre>" + out + "</pre>\n";
}

// The legend of a hue: squares for weights from 0 to 100%.
static std::string scale(const char* hue, const std::string& name) {
    std::string out = "<span>" + name;
    for (const double weight : {0.0, 0.01, 0.05, 0.2, 0.5, 1.0}) {
        out += "<svg class=\"" + std::string(hue) + std::to_string(heat_level(shade((float)weight))) +
               "\" viewBox=\"0 0 1 1\" aria-hidden=\"true\"><rect class=\"cell\" width=\"1\" "
               "height=\"1\"/></svg>" +
               printed("%.0f%%", 100 * weight);
    }
    return out + "</span>";
}

std::string InspectPage::introduction() const {
    const bool leaves_out = chooses_ || windows_;
    std::string out =
        "<p>Each row is a query, a token that reads. Each column is a block of keys, tokens that are read.";
    if (chooses_) {
        out +=
            " The left map shows the blocks that MoBA chose, including the query's own block. The stronger "
            "the colour, the more of the query's attention weight is on the block.";
    }
    if (leaves_out) {
        out += " The right map shows what full attention would read with the same queries and keys: blue "
               "blocks are read by the layer too, orange blocks are left out.";
    }
    out += " Point at a cell, touch it, or move with the arrow keys to see its numbers below.</p>\n";
    if (about_.is_test()) {
        out += "<p>The arrow on the right marks the row of the question, the arrow at the top the block with "
               "the answer, and the ring the cell where they cross.</p>\n";
    }
    if (rows_.step() > 1) {
        out += "<p class=\"warning\">Of the " + std::to_string(about_.tokens.size()) + " queries one in " +
               std::to_string(rows_.step()) + " is drawn; the JSON file (--json) contains all of them.</p>\n";
    }
    return out + "<p class=\"scale\">" + scale("h", "read") + (leaves_out ? scale("o", "left out") : "") +
           "</p>\n";
}

std::string InspectPage::way_of_the_answer() const {
    if (!about_.is_test()) { return ""; }
    std::string out = "<p>A token keeps its state from layer to layer, and each head adds what it reads from "
                      "other tokens. So the answer can reach the question through another token, although no "
                      "head of the question reads the answer itself.</p>\n<p><b>";
    if (!about_.reached) {
        return out +
               "The answer cannot reach the question:</b> there is no chain of tokens, each read by the "
               "next, from the answer to the question.</p>\n";
    }
    out += "The answer can reach the question</b> through the tokens that are read. ";
    if (about_.paths.empty()) {
        return out +
               printed("But all paths have small attention weights: no product of them is %g or more",
                       AnswerPaths::least_weight) +
               ".</p>\n";
    }
    return out + "Weights of the followed paths, added up: <b>" + totals_text(about_.totals) +
           "</b>.</p>\n<p>These are the heaviest paths. The weight of a path is the product of the attention "
           "weights of its steps. It says how much attention is paid, not what is passed on.</p>\n" +
           html_cards({draw_paths(about_.paths, (int)about_.layers.size(), about_.tokens)}) +
           paths_list(about_.paths, about_.tokens);
}

std::string InspectPage::html() const {
    const int T = (int)about_.tokens.size();
    std::string body = "<h1>Which blocks were chosen</h1>\n<p><b>" + html_escape(about_.model) + "</b>, " +
                       std::to_string(T) + (T == 1 ? " token" : " tokens");
    if (about_.is_test()) {
        body += ". The question is the last token, " + html_escape(about_.tokens[about_.question]) +
                "; its answer is " + html_escape(about_.answer) + ", found at token " +
                std::to_string(about_.source) + ". The model gives the answer a probability of " +
                percent(about_.probability) +
                (about_.right ? "; no token is more likely" : "; another token is more likely");
    }
    body += ".</p>\n" + introduction();
    HtmlTable table{{"layer, head", "kind", "weight covered", "same blocks as the query before",
                     "pairs in the union of 64 queries"},
                    summary_};
    if (about_.is_test()) {
        for (const char* c : {"question sees the answer", "rank of its block's score", "weight on its block",
                              "under full attention"}) {
            table.columns.push_back(c);
        }
    }
    body += html_section(
        "Heads",
        "<p class=\"note\">Weight covered: the share of full attention's weight that is on the "
        "keys that the layer reads, mean over the queries looked at. Pairs in the union of 64 queries: a "
        "kernel that walks over all blocks that neighbouring queries chose, and masks the rest, would "
        "compute "
        "so many times as many pairs.</p>\n" +
            html_table(table));
    body += html_section("The way of the answer", way_of_the_answer());
    body += html_section("Prompt", prompt());
    for (const auto& [layer, cards] : cards_) {
        body += html_section("Layer " + std::to_string(layer) + ", " + about_.layers[layer], cards);
    }
    body += "<div id=\"readout\" role=\"status\"></div>\n";
    json about = {{"queries", drawn_}, {"tokens", about_.tokens}};
    if (about_.is_test()) {
        about["question"] = about_.question;
        about["source"] = about_.source;
    }
    std::string script = about.dump();
    for (size_t at = 0; (at = script.find('<', at)) != std::string::npos;) {
        script.replace(at, 1, "\\u003c");  // so that no token can end the script
    }
    return html_page("moba inspect: " + about_.model, body,
                     "const about = " + script + ";\nconst views = [" + data_ + "];\n" + inspect_script,
                     style);
}

}  // namespace moba
