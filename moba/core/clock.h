/* The time of a steady clock, for measuring how long something takes. */
#pragma once
#include <chrono>

namespace moba {

inline double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace moba
