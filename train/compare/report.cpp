#include "train/compare/report.h"
#include "train/compare/charts.h"
#include "train/compare/findings.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/display/svg_map.h"
#include <algorithm>
#include <cctype>
#include <set>

namespace moba {

namespace {

using Tasks = std::vector<TaskFigures>;

std::string paragraph(const std::string& text, const char* style = "") {
    return "<p" + (*style ? " class=\"" + std::string(style) + "\"" : "") + ">" + html_escape(text) +
           "</p>\n";
}

using ChartsOf = Charts (*)(const TaskFigures&);

// The charts of all tasks side by side.
std::string cards(const Tasks& tasks, ChartsOf charts) {
    std::vector<std::string> figures;
    for (const TaskFigures& t : tasks) {
        for (const Chart& c : charts(t)) { figures.push_back(draw_chart(c)); }
    }
    return html_cards(figures);
}

std::string cards_by_task(const Tasks& tasks, ChartsOf charts) {
    std::string out;
    for (const TaskFigures& t : tasks) { out += cards({t}, charts); }
    return out;
}

std::string with_note(const std::string& figures, const std::string& note) {
    return figures.empty() ? "" : figures + paragraph(note, "note");
}

std::string head(const Tasks& tasks) {
    std::string out;
    std::set<std::string> devices;
    for (const TaskFigures& t : tasks) {
        for (const std::string& sentence : findings(t)) { out += paragraph(sentence); }
        for (const VariantFigures& v : t.variants) {
            for (const RunResult& run : v.runs) { devices.insert(run.device); }
        }
    }
    for (const TaskFigures& t : tasks) {
        for (const std::string& w : warnings(t)) { out += paragraph(w, "warning"); }
    }
    devices.erase("");
    std::string names;
    for (const std::string& d : devices) { names += (names.empty() ? "" : "; ") + d; }
    return out + (names.empty() ? "" : paragraph("Trained and measured on: " + names + ".", "note"));
}

std::string tables(const Tasks& tasks) {
    std::string out;
    for (const TaskFigures& t : tasks) {
        for (const FigureTable& figures : figure_tables(t)) {
            HtmlTable table{{"variant"}, {}};
            for (const std::string& c : figures.columns) { table.columns.push_back(html_escape(c)); }
            for (size_t i = 0; i < figures.rows.size(); i++) {
                table.rows.push_back({html_escape(t.variants[i].name)});
                for (const FigureCell& cell : figures.rows[i]) {
                    const std::string text = html_escape(cell.text);
                    table.rows.back().push_back(
                        (cell.best ? "<strong>" + text + "</strong>" : text) +
                        (cell.note.empty() ? "" : "<small>" + html_escape(cell.note) + "</small>"));
                }
            }
            out += "<h3>" + html_escape(t.name + ": " + figures.name) + "</h3>\n" + html_table(table);
        }
        std::string rates;
        for (const VariantFigures& v : t.variants) {
            const std::string note = learning_rate_note(v);
            if (!note.empty()) { rates += (rates.empty() ? "" : "; ") + v.name + ": " + note; }
        }
        if (!rates.empty()) {
            out += paragraph(
                "The figures are those of the learning rate with the lowest last validation loss of the "
                "first seed, given in parentheses. " +
                    rates + ".",
                "note");
        }
    }
    if (out.empty()) { return ""; }
    return out +
           paragraph(
               "Means over the seeds; the best mean of a column is bold. Times and speeds are medians over "
               "the "
               "seeds, with the lowest and the highest seed below. Intervals are 95% intervals: with "
               "one seed, Wilson's interval over its answers, which does not tell how another seed would do; "
               "with several seeds, Student's t over the seeds, never narrower than the interval of one "
               "seed. Late loss: the loss of the last quarter of the positions. Within a number of tokens or "
               "seconds: the last validation by the time at which the first variant had finished; the other "
               "variants are at a disadvantage if their learning rate had not decayed by then. Reach: see "
               "below. Union of 64 queries: how many times as many pairs a kernel would compute that "
               "walks over all blocks that neighbouring queries chose, and masks the rest.",
               "note");
}

std::string loss_curves(const Tasks& tasks) {
    std::string note = "Thin lines: training loss. Lines with points: validation loss.";
    if (std::any_of(tasks.begin(), tasks.end(), [](const TaskFigures& t) { return t.seeds.size() > 1; })) {
        note += " Means over the seeds, up to the end of the shortest run; the bands reach from the lowest "
                "to the highest seed.";
    }
    return with_note(cards_by_task(tasks, loss_charts), note);
}

std::string heat_maps(const Tasks& tasks) {
    std::string out;
    for (const TaskFigures& t : tasks) {
        std::vector<std::string> cards;
        for (const VariantFigures& v : t.variants) {
            cards.push_back(draw_heat_map(t.name + ": " + v.name, depth_map(v)));
        }
        out += html_cards(cards);
    }
    return out;
}

std::string recall_table(const TaskFigures& t) {
    HtmlTable table{{"layer, head"}, {}};
    std::map<std::pair<int, int>, std::map<size_t, std::string>> cells;
    std::vector<size_t> routers;
    for (size_t i = 0; i < t.variants.size(); i++) {
        const LengthFigures* l = t.variants[i].at(t.seq_len);
        if (!l || l->router.empty()) { continue; }
        routers.push_back(i);
        table.columns.push_back(html_escape(t.variants[i].name));
        for (const HeadRecall& h : l->router) {
            cells[{h.layer, h.head}][i] =
                percent(h.recall) + "<small>predicted " + percent(h.predicted) + "</small>";
        }
    }
    if (routers.empty()) { return ""; }
    for (const auto& [head, by_variant] : cells) {
        table.rows.push_back({std::to_string(head.first) + ", " + std::to_string(head.second)});
        for (size_t i : routers) {
            table.rows.back().push_back(by_variant.count(i) ? by_variant.at(i) : "-");
        }
    }
    return "<details" + std::string(cells.size() <= 16 ? " open" : "") + "><summary>" +
           html_escape(t.name + ": recall by layer and head at T = " + std::to_string(t.seq_len)) +
           "</summary>\n" + html_table(table) + "</details>\n";
}

std::string recall(const Tasks& tasks) {
    const std::string charts = cards_by_task(tasks, router_charts);
    if (charts.empty()) { return ""; }
    std::string lists;
    for (const TaskFigures& t : tasks) { lists += recall_table(t); }
    return paragraph(
               "Recall: how often the block with the answer is among the K blocks that a head chooses. "
               "The prediction is computed from the signal-to-noise ratio of the head's scores. One "
               "point for each layer, head and length, mean over the seeds. Reach: how often the answer "
               "can get to the question at all, either directly or through tokens that chose its block "
               "in an earlier layer; one point for each length.",
               "note") +
           charts + lists;
}

std::string commands(const Tasks& tasks) {
    std::string out;
    for (const TaskFigures& t : tasks) {
        std::string list;
        int runs = 0;
        for (const VariantFigures& v : t.variants) {
            for (const RunResult& run : v.all_runs) {
                std::string name = run_name(t, v, run);
                const double loss = run.last_validation_loss();
                if (!std::isnan(loss)) { name += ": last validation loss " + printed("%.4f", loss); }
                list += run.done ? paragraph(name) : paragraph(name + ": failed: " + run.error, "warning");
                std::string lines = run.command;
                if (!run.eval_command.empty()) { lines += "\n" + run.eval_command; }
                list += "<pre>" + html_escape(lines) + "</pre>\n";
                runs++;
            }
        }
        if (runs) {
            out += "<details><summary>" +
                   html_escape(t.name + ": " + std::to_string(runs) + (runs == 1 ? " run" : " runs")) +
                   "</summary>\n" + list + "</details>\n";
        }
    }
    return out;
}

}  // namespace

std::map<std::string, std::string> chart_files(const Tasks& tasks) {
    std::map<std::string, std::string> out;
    for (const TaskFigures& t : tasks) {
        for (const Chart& c : all_charts(t)) {
            std::string name;  // the words of the title, joined by -
            for (char letter : c.title.substr(t.name.size())) {
                if (std::isalnum((unsigned char)letter)) {
                    name += letter;
                } else if (!name.empty() && name.back() != '-') {
                    name += '-';
                }
            }
            out[t.name + "/" + name + ".svg"] = draw_chart_file(c);
        }
    }
    return out;
}

std::string report_page(const Tasks& tasks, const std::string& title) {
    const std::string length = html_section(
        "Past the trained length", with_note(cards(tasks, length_charts), "The bands are 95% intervals."));
    const std::string flop =
        html_section("Loss against training flop",
                     with_note(cards(tasks, flop_charts),
                               "Lines: during training. Points: at its end. Means over the seeds."));
    // of one task, each has one chart
    const bool together = tasks.size() == 1 && !length.empty() && !flop.empty();
    return html_page(title, "<h1>" + html_escape(title) + "</h1>\n" + head(tasks) +
                                html_section("Summary", tables(tasks)) +
                                html_section("Loss curves", loss_curves(tasks)) +
                                html_section("Accuracy by length and depth, percent", heat_maps(tasks)) +
                                html_section("Loss by position", cards(tasks, position_charts)) +
                                (together ? "<div class=\"halves\">" + length + flop + "</div>\n" : length) +
                                html_section("Cost by length",
                                             with_note(cards_by_task(tasks, cost_charts),
                                                       "For one sequence (B = 1). Times are those of "
                                                       "attention alone, without the rest of the model.")) +
                                html_section("What the router finds", recall(tasks)) +
                                (together ? "" : flop) + html_section("Commands", commands(tasks)));
}

}  // namespace moba
