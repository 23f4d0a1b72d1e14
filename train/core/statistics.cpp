#include "train/core/statistics.h"
#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace moba {

Interval wilson(long right, long total) {
    const double z = 1.959964, n = (double)total, p = (double)right / n;
    const double middle = p + z * z / (2 * n), half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return {(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)};
}

double mean(const std::vector<double>& v) {
    return v.empty() ? NAN : std::accumulate(v.begin(), v.end(), 0.0) / (double)v.size();
}

double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
    return v[v.size() / 2];
}

Interval student(const std::vector<double>& v) {
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                               2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                               2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    if (v.size() < 2) { return {NAN, NAN}; }
    const double m = mean(v), n = (double)v.size();
    double squares = 0;
    for (double x : v) { squares += (x - m) * (x - m); }
    const size_t freedom = v.size() - 1;
    const double half = (freedom <= std::size(t) ? t[freedom - 1] : 1.96) * std::sqrt(squares / (n - 1) / n);
    return {m - half, m + half};
}

}  // namespace moba
