/* HTML pages that are one file each: no network, no foreign scripts; for screens, phones, dark mode and
   paper. */
#pragma once
#include <string>
#include <vector>

namespace moba {

/* Escapes text for use between tags and inside quoted attributes. */
std::string html_escape(const std::string& text);

/* The whole file, valid UTF-8: other bytes become \xNN. `body` is HTML; `script`, if any, runs after it.
   `style_rules` are additional CSS rules; they come after the style that all pages share and so override
   it. */
std::string html_page(const std::string& title, const std::string& body, const std::string& script = "",
                      const std::string& style_rules = "");

/* <h2> and its content; "" when the content is empty. `body` is HTML. */
std::string html_section(const std::string& title, const std::string& body);

/* Figures side by side, as many as fit the width; "" for none. */
std::string html_cards(const std::vector<std::string>& figures);

/* Cells are HTML; the first cell of a row is its heading. A table that is too wide scrolls in its box. */
struct HtmlTable {
    std::vector<std::string> columns;
    std::vector<std::vector<std::string>> rows;
};
std::string html_table(const HtmlTable&);

}  // namespace moba
