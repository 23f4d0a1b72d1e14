#include "train/options/suggest.h"
#include <algorithm>

namespace moba {

int edit_distance(const std::string& a, const std::string& b) {
    const size_t n = a.size(), m = b.size();
    std::vector<std::vector<int>> d(n + 1, std::vector<int>(m + 1));
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = (int)(i + j);
                continue;
            }
            d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
            }
        }
    }
    return d[n][m];
}

// A word that contains the other one counts as like it: num-steps and steps.
static int unlikeness(const std::string& a, const std::string& b) {
    const std::string &shorter = a.size() < b.size() ? a : b, &longer = a.size() < b.size() ? b : a;
    const bool contained = shorter.size() >= 4 && longer.find(shorter) != std::string::npos;
    return contained ? 2 : edit_distance(a, b);
}

static std::string bare(const std::string& word) {
    return word.substr(std::min(word.size(), word.find_first_not_of('-')));
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
    std::string best;
    int least = std::max(2, (int)word.size() / 4) + 1;
    for (const std::string& k : known) {
        const int now = unlikeness(bare(word), bare(k));
        if (!k.empty() && now < least) { best = k, least = now; }
    }
    return best.empty() ? "" : "; did you mean " + best + "?";
}

}  // namespace moba
