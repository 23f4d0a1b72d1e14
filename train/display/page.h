/* HTML pages that need nothing else: no network, no script of others, readable on a phone, in dark, on paper. */
#pragma once
#include <string>
#include <vector>

namespace moba {

/* Text for between tags and inside quoted attributes. */
std::string html_escape(const std::string& text);

/* The colours, light and dark, and the classes that train/display/svg.h draws with. */
std::string drawing_style();
std::string
chart_style();  // the same for a chart alone, without custom properties: not only browsers read it

/* The whole file. body is HTML; a script, if any, runs after it. Further rules of the page's own come behind
   the style that all pages share. */
std::string html_page(const std::string& title, const std::string& body, const std::string& script = "",
                      const std::string& style_rules = "");

/* <h2> and what belongs to it; "" where there is nothing under it. body is HTML. */
std::string html_section(const std::string& title, const std::string& body);

/* Figures side by side, as many as there is room for; "" for none. */
std::string html_cards(const std::vector<std::string>& figures);

/* Cells are HTML; the first column is a heading of its row. Too wide a table scrolls in its own box. */
struct HtmlTable {
    std::vector<std::string> columns;
    std::vector<std::vector<std::string>> rows;
};
std::string html_table(const HtmlTable&);

}  // namespace moba
