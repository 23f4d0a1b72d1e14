/* "Did you mean ...?" for a word that is not known. */
#pragma once
#include <string>
#include <vector>

namespace moba {

/* Insertions, deletions, replacements and swaps of neighbours that turn one word into the other. */
int edit_distance(const std::string& a, const std::string& b);

/* "; did you mean WORD?" with the known word that is most like this one, or "" if none is. */
std::string did_you_mean(const std::string& word, const std::vector<std::string>& known);

}  // namespace moba
