/* Numbers as text for people. */
#pragma once
#include <string>

namespace moba {

/* printf into a string of the right length. */
[[gnu::format(printf, 1, 2)]] std::string formatted(const char* format, ...);

/* These four write a number that was not measured (NaN) as "-". */
std::string printed(const char* format, double x);  // printf with one number
std::string percent(double share);                  // "99.8%"
std::string readable_number(double x);              // "1314", "170K", "9M", "3.1T", "0.0123"; K is 1000
std::string readable_length(double tokens);         // "768", "1K", "16K": K is 1024, for multiples of it only

}  // namespace moba
