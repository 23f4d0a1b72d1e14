#include "train/display/html.h"
#include "train/core/utf8.h"
#include "train/display/svg_style.h"

namespace moba {

static const char* page_rules = R"(
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:16px 20px 48px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.4em 0}h2{font-size:1.25rem;margin:2em 0 .4em;border-top:1px solid var(--rule);padding-top:.8em}
a{color:var(--c0)}h3{font-size:1rem;margin:1.4em 0 .4em}p{margin:.5em 0;max-width:78ch}
.note{color:var(--soft);font-size:.9rem}.warning{background:var(--warn);border-radius:4px;padding:.4em .7em}
.cards{display:grid;gap:12px;margin-bottom:12px;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));align-items:start}
figure{margin:0;padding:8px;background:var(--card);border-radius:6px;break-inside:avoid;min-width:0}
figcaption{font-weight:600;font-size:.95rem;padding:0 2px 4px}
figure>svg{display:block;width:100%;height:auto}.cards.c1{grid-template-columns:minmax(0,590px)}
@media(min-width:720px){.cards.c2,.cards.c4{grid-template-columns:1fr 1fr}.halves{display:grid;grid-template-columns:1fr 1fr;gap:0 12px}}
@media(min-width:1000px){.c1 svg text,.c2 svg text,.c4 svg text{font-size:9px}.c1 svg text.mark-text,.c2 svg text.mark-text,.c4 svg text.mark-text{font-size:8.5px}}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 14px;margin:4px 2px 0;padding:0;font-size:.85rem}
.legend svg{width:30px;height:10px;margin-right:5px;vertical-align:middle}
.wide{overflow-x:auto;margin:.6em 0}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px 4px 0;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top;overflow-wrap:normal}
th:first-child,td:first-child{text-align:left}td{white-space:nowrap}th:first-child{position:sticky;left:0;background:var(--paper)}thead th{color:var(--soft);font-weight:600;vertical-align:bottom;min-width:5em;max-width:14em}tbody th{font-weight:400;min-width:8em}
td small{display:block;color:var(--soft)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border-radius:4px;padding:8px;font-size:.85rem;margin:.3em 0 .8em}
summary{cursor:pointer}
@media(max-width:480px){body{padding:8px 10px 32px}figure{padding:8px 2px}}
@media(max-width:560px){.many thead{display:none}.many table,.many tbody,.many tr,.many th,.many td{display:block;position:static;max-width:none}
.many tr{border-bottom:1px solid var(--rule);padding:.5em 0}.many th,.many td{border:0;padding:1px 0}.many tbody th{font-weight:600}
.many td{display:flex;justify-content:space-between;gap:1em;white-space:normal}.many td::before{content:attr(data-label);color:var(--soft);text-align:left}
.many td small{display:inline;margin-left:.5em}}
@media print{body{max-width:none;padding:0;font-size:12px}.wide{overflow:visible}}
)";

std::string html_escape(const std::string& text) {
    std::string out;
    for (char c : text) {
        switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        case '\'':
            out += "&#39;";
            break;
        default:
            out += (unsigned char)c < ' ' && c != '\n' && c != '\t' ? '?' : c;
        }
    }
    return out;
}

std::string html_page(const std::string& title, const std::string& body, const std::string& script,
                      const std::string& style_rules) {
    // Tokens may be single bytes. Side by side they may form a character, so the page is checked as a whole.
    return valid_utf8("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
                      html_escape(title) + "</title>\n<style>" + drawing_style() + page_rules + style_rules +
                      "</style>\n</head>\n<body>\n" + body +
                      (script.empty() ? "" : "\n<script>\n" + script + "\n</script>") +
                      "\n</body>\n</html>\n");
}

std::string html_section(const std::string& title, const std::string& body) {
    return body.empty() ? "" : "<section>\n<h2>" + html_escape(title) + "</h2>\n" + body + "</section>\n";
}

std::string html_cards(const std::vector<std::string>& figures) {
    std::string out;
    for (const std::string& f : figures) { out += f; }
    return out.empty() ? ""
                       : "<div class=\"cards c" + std::to_string(figures.size()) + "\">\n" + out + "</div>\n";
}

std::string html_table(const HtmlTable& table) {
    // on a phone, a row of a table with many columns becomes a list
    std::string out = std::string("<div class=\"wide") + (table.columns.size() > 4 ? " many" : "") +
                      "\"><table>\n<thead><tr>";
    for (const std::string& c : table.columns) { out += "<th scope=\"col\">" + c + "</th>"; }
    out += "</tr></thead>\n<tbody>\n";
    for (const std::vector<std::string>& row : table.rows) {
        for (size_t i = 0; i < row.size(); i++) {
            const std::string label = i < table.columns.size() ? table.columns[i] : "";
            out += i ? "<td data-label=\"" + label + "\"><span>" + row[i] + "</span></td>"
                     : "<tr><th scope=\"row\">" + row[i] + "</th>";
        }
        out += "</tr>\n";
    }
    return out + "</tbody></table></div>\n";
}

}  // namespace moba
