/* Means, medians, 95% intervals. */
#pragma once
#include <vector>

namespace moba {

struct Interval {
    double low, high;
};

/* Wilson's score interval for `right` of `n`. */
Interval wilson(long right, long n);

double mean(const std::vector<double>&);  // NaN of nothing
double median(std::vector<double>);       // of an even number the upper one; not of nothing

/* Student's t: mean -+ t(n-1) * deviation / sqrt(n), the deviation with n-1. NaN for fewer than two values: one run does not tell
   how another would do. */
Interval student(const std::vector<double>& runs);

}  // namespace moba
