/* Numbers as people write them: in decimal, whatever zeros stand in front. Octal, hexadecimal, "inf", "nan",
   blanks and anything else beside the digits give nothing. */
#pragma once
#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <string>

namespace moba {

/* "0.50", "+1e-3". */
inline std::optional<double> parse_decimal(const std::string& text) {
    const char* begin = text.c_str() + (text[0] == '+' && text[1] != '-');
    const char* end = text.c_str() + text.size();
    double x;
    const auto [rest, error] = std::from_chars(begin, end, x);
    if (error != std::errc() || rest != end || !std::isfinite(x)) { return {}; }
    return x;
}

/* "010" is ten. "1e1" and "10.0", as JSON may write it, are accepted too, below 2^53. */
template <std::integral X>
std::optional<X> parse_whole(const std::string& text) {
    const char* begin = text.c_str() + (text[0] == '+' && text[1] != '-');
    const char* end = text.c_str() + text.size();
    X n;
    const auto [rest, error] = std::from_chars(begin, end, n);
    if (error == std::errc() && rest == end) { return n; }
    const std::optional<double> x = parse_decimal(text);
    const bool plain = text.find_first_of(".eE") == std::string::npos;
    if (plain || !x || *x != std::floor(*x) || std::fabs(*x) >= 0x1p53 ||
        *x < (double)std::numeric_limits<X>::min() || *x > (double)std::numeric_limits<X>::max()) {
        return {};
    }
    return (X)*x;
}

}  // namespace moba
