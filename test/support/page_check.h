/* Checks an HTML page: every tag and quote is closed in the right order, and nothing is loaded from
   elsewhere. */
#pragma once
#include "test/support/check.h"
#include <algorithm>
#include <string>
#include <vector>

namespace moba {

inline bool has(const std::string& text, const std::string& what) {
    return text.find(what) != std::string::npos;
}

// Returns what is wrong with the page; "" if nothing.
inline std::string page_fault(const std::string& html) {
    std::vector<std::string> open;
    for (size_t at = 0; at < html.size(); at++) {
        if (html[at] == '>') { return "a bare > at " + html.substr(at > 40 ? at - 40 : 0, 60); }
        if (html[at] != '<') { continue; }
        size_t end = at + 1;
        for (bool quoted = false; end < html.size() && (quoted || html[end] != '>'); end++) {
            if (html[end] == '"') { quoted = !quoted; }
            if (html[end] == '<') { return "< inside a tag: " + html.substr(at, 60); }
        }
        if (end >= html.size()) { return "a tag without an end: " + html.substr(at, 60); }
        const std::string tag = html.substr(at + 1, end - at - 1);
        const std::string name = tag.substr(0, tag.find_first_of(" /\n", tag[0] == '/' ? 1 : 0));
        at = end;
        if (tag[0] == '!' || tag.ends_with("/") || name == "meta") { continue; }
        if (tag[0] != '/') {
            open.push_back(name);
            if (name == "style" || name == "script") {
                at = html.find("</" + name, at) - 1;
            }  // the content is not HTML
        } else if (open.empty() || "/" + open.back() != name) {
            return "</" + name.substr(1) + "> closes " + (open.empty() ? "nothing" : open.back());
        } else {
            open.pop_back();
        }
    }
    if (!open.empty()) { return open.back() + " is not closed"; }
    for (const char* outside : {"http:", "https:", "src=", "@import", "url("}) {
        if (has(html, outside)) { return std::string("it reaches out: ") + outside; }
    }
    return "";
}

}  // namespace moba
