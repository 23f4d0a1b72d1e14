/* Numbers as people read them. Nothing measured (NaN) is "-" everywhere. */
#pragma once
#include <string>

namespace moba {

std::string printed(const char* form, double x);  // printf with one number
std::string percent(double share);                // "99.8%"
std::string readable_number(double x);            // "1314", "170K", "9M", "3.1T", "0.0123"; K is 1000
std::string readable_length(double tokens);  // "768", "1K", "16K": K is 1024, and only where nothing is lost

}  // namespace moba
