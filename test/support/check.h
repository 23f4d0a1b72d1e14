/* Comparisons that all tests share. They follow three rules; each avoids a fault found in other projects:
   1. NaN fails: conditions are written !(d <= tolerance), and test/ is never compiled with fast-math.
   2. Tolerances are measured: the error of a kernel against fp64 may be at most twice the error of the fp32
      reference against fp64, plus one small floor.
   3. Outputs are filled with NaN first and followed by guard words. So an element that was not written, or a
      write past the end, is detected. */
#pragma once
#include "moba/core/base.h"
#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace moba {

#ifdef __FAST_MATH__
#error "test/ must be compiled without fast-math: it deletes the NaN check"
#endif

// Largest |got - want|; infinite if one of the values is not finite.
template <class X, class Y>
double max_abs_error(const X* got, const Y* want, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = std::fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst)) { worst = std::isnan(d) ? INFINITY : d; }
    }
    return worst;
}
template <class Y>
double max_abs(const Y* x, size_t n) {
    double largest = 0;
    for (size_t i = 0; i < n; i++) { largest = std::max(largest, std::fabs((double)x[i])); }
    return largest;
}
// Error relative to the largest value of the reference.
template <class X, class Y>
double relative_error(const std::vector<X>& got, const std::vector<Y>& want) {
    if (got.size() != want.size()) { return INFINITY; }
    return max_abs_error(got.data(), want.data(), want.size()) /
           std::max(max_abs(want.data(), want.size()), 1e-30);
}

#define EXPECT_WITHIN(error, tolerance)                                                                      \
    do {                                                                                                     \
        const double error_ = (error), tolerance_ = (tolerance);                                             \
        if (!(error_ <= tolerance_)) {                                                                       \
            ADD_FAILURE() << #error << " = " << error_ << ", allowed " << tolerance_;                        \
        }                                                                                                    \
    } while (0)

// Number of times that `part` occurs in `text`.
inline int count(const std::string& text, const std::string& part) {
    int n = 0;
    for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) { n++; }
    return n;
}

// n elements, filled with NaN and followed by guard bytes. intact(): nothing was written past the end.
template <class X>
class Guarded {
  public:
    explicit Guarded(size_t n) : n_(n), data_(n + 16) {
        for (size_t i = 0; i < n; i++) { data_[i] = X(NAN); }
        std::memset((void*)(data_.data() + n), 0xC5, 16 * sizeof(X));
    }
    X* data() { return data_.data(); }
    X operator[](size_t i) const { return data_[i]; }
    std::vector<X> values() const { return {data_.begin(), data_.begin() + n_}; }
    bool intact() const {
        const unsigned char* p = (const unsigned char*)(data_.data() + n_);
        for (size_t i = 0; i < 16 * sizeof(X); i++) {
            if (p[i] != 0xC5) { return false; }
        }
        return true;
    }

  private:
    size_t n_;
    std::vector<X> data_;
};

}  // namespace moba
