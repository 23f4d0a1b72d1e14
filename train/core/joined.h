/* The items of a list as one text. */
#pragma once
#include <string>

namespace moba {

/* Strings or numbers with `between` between them: {1, 8} and ", " -> "1, 8". */
template <class List>
std::string joined(const List& items, const char* between) {
    std::string out;
    bool first = true;
    for (const auto& item : items) {
        if (!first) { out += between; }
        first = false;
        if constexpr (requires { std::to_string(item); }) {
            out += std::to_string(item);
        } else {
            out += item;
        }
    }
    return out;
}

}  // namespace moba
