/* Means, medians, 95% intervals. */
#pragma once
#include <vector>

namespace moba {

struct Interval {
    double low, high;
};

/* Wilson's score interval for `right` of `n`. */
Interval wilson(long right, long n);

double mean(const std::vector<double>&);  // NaN without values
double median(std::vector<double>);       // needs a value; of an even number of them the upper middle one

/* Student's t interval: mean -+ t(n-1) * deviation / sqrt(n), with the sample deviation (divisor n-1). NaN
   for fewer than two values: one run does not show how much runs differ. */
Interval student(const std::vector<double>& runs);

}  // namespace moba
