#include "train/eval/swap_page.h"
#include "train/core/joined.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/display/svg.h"
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

// "64:8:3" -> "S = 64, K = 8, last 3 layers full"
std::string variant_name(const std::string& text) {
    if (text == "full") { return "full attention"; }
    const size_t first = text.find(':'), second = text.find(':', first + 1);
    std::string out = "S = " + text.substr(0, first) + ", K = " + text.substr(first + 1, second - first - 1);
    const std::string full = second == text.npos ? "" : text.substr(second + 1);
    if (!full.empty()) { out += full == "1" ? ", last layer full" : ", last " + full + " layers full"; }
    return out;
}

struct Row {
    std::string name;
    double left_out, loss, more, bits, right, speed;  // more: than full attention, NaN without it
};

std::vector<Row> rows_of(const json& results) {
    double full = NAN;
    for (const json& r : results["variants"]) {
        if (r["variant"] == "full") { full = r["loss"]; }
    }
    std::vector<Row> rows;
    for (const json& r : results["variants"]) {
        const double loss = r["loss"], seconds = r["seconds"];
        rows.push_back({variant_name(r["variant"]), r["sparsity"], loss, loss - full,
                        r.value("bits_per_byte", NAN), r["accuracy"], r["tokens"].get<double>() / seconds});
    }
    return rows;
}

/* Mean loss by position, less that of `from` if it is not null: in two bins for each doubling, from position
   16 on, because the first positions differ by chance only. */
std::vector<Point> by_position(const json& losses, const json& from) {
    struct Bin {
        double loss = 0, position = 0, count = 0;
    };
    std::map<int, Bin> bins;
    for (size_t i = 0; i < losses.size(); i++) {
        const double position = losses[i]["position"].get<double>() + 1, count = losses[i]["count"];
        if (position < 16 ||
            (!from.is_null() && (i >= from.size() || from[i]["position"] != losses[i]["position"]))) {
            continue;
        }
        const double loss =
            losses[i]["loss"].get<double>() - (from.is_null() ? 0 : from[i]["loss"].get<double>());
        // the end of the window belongs to the last bin
        Bin& b = bins[(int)(2 * std::log2(std::min(position, (double)losses.size() - 1)))];
        b.loss += loss * count, b.position += position * count, b.count += count;
    }
    std::vector<Point> out;
    for (const auto& [i, b] : bins) { out.push_back({b.position / b.count, b.loss / b.count}); }
    return out;
}

std::string charts(const json& results) {
    const std::vector<Row> rows = rows_of(results);
    json full;
    for (const json& r : results["variants"]) {
        if (r["variant"] == "full") { full = r["loss_by_position"]; }
    }
    std::vector<Series> points, curves;
    for (size_t i = 0; i < rows.size(); i++) {
        const json& losses = results["variants"][i]["loss_by_position"];
        points.push_back({.name = rows[i].name,
                          .points = {{rows[i].left_out, rows[i].loss}},
                          .style = (int)i,
                          .joined = false});
        if (losses == full) { continue; }
        curves.push_back({.name = rows[i].name, .points = by_position(losses, full), .style = (int)i});
    }
    if (curves.empty()) { return ""; }
    const bool differences = !full.is_null();
    return html_cards({draw_chart({.title = "Loss against the pairs that are left out",
                                   .x = {.label = "causal query-key pairs left out, mean over the layers",
                                         .percent = true,
                                         .low = 0,
                                         .high = 1},
                                   .y = {.label = "loss, nats per token"},
                                   .series = points}),
                       draw_chart({.title = differences ? "Loss more than with full attention, by position"
                                                        : "Loss by position",
                                   .x = {.label = "position, tokens", .scale = Scale::log2},
                                   .y = {.label = differences ? "difference of the losses, nats per token"
                                                              : "loss, nats per token"},
                                   .series = curves})});
}

}  // namespace

std::string swap_head() {
    return formatted("%-38s %8s %8s %8s %9s %10s %9s", "attention", "left out", "loss", "more", "bits/byte",
                     "next token", "tokens/s");
}

std::string swap_line(const json& results, size_t i) {
    const Row r = rows_of(results).at(i);
    return formatted("%-38s %8s %8.4f %8s %9s %10s %9.0f", r.name.c_str(), percent(r.left_out).c_str(),
                     r.loss, printed("%+.4f", r.more).c_str(), printed("%.4f", r.bits).c_str(),
                     percent(r.right).c_str(), r.speed);
}

std::string swap_page(const json& results) {
    const json &s = results["settings"], &about = results["about"];
    const std::string model = about["model"], name = model.substr(model.find_last_of('/') + 1);
    HtmlTable table{{"attention", "pairs left out", "loss, nats", "more than full", "bits per byte",
                     "next token right", "tokens/s"},
                    {}};
    for (const Row& r : rows_of(results)) {
        table.rows.push_back({html_escape(r.name), percent(r.left_out), printed("%.4f", r.loss),
                              printed("%+.4f", r.more), printed("%.4f", r.bits), percent(r.right),
                              printed("%.0f", r.speed)});
    }
    const json& first = results["variants"][0];
    const std::string text =
        "<h1>" + html_escape(name) +
        ": full attention and MoBA</h1>\n<p>The same weights read the same text under each kind of "
        "attention: " +
        readable_number(first["tokens"].get<double>()) + " tokens in " + first["windows"].dump() +
        " windows of " + readable_length(s["seq-len"].get<double>()) +
        " tokens. With MoBA, a query attends K blocks of S tokens: its own one, and "
        "the K - 1 past blocks whose mean key fits it best.</p>\n<p class=\"note\">Model: " +
        html_escape(model) + ". Its layers as trained: " + html_escape(about["trained"].get<std::string>()) +
        "; no variant was trained further. Text: " +
        html_escape(joined(about["text"].get<std::vector<std::string>>(), ", ")) +
        ". Speed is that of this evaluation on this machine, other layers and the reading of the weights "
        "included.</p>\n";
    return html_page(name + ": full attention and MoBA", text + html_table(table) + charts(results));
}

}  // namespace moba
