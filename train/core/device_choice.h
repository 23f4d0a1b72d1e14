/* Turns --precision into a type at run time: calls f(float()) or f(bf16()), from where all code is a template
   on that element type. Master weights, gradients, moments and files are fp32 in both cases. */
#pragma once
#include "moba/core/base.h"

namespace moba {

template <class F>
auto with_precision(const std::string& name, F f) {
    return name == "bf16" ? f(bf16()) : f(float());
}

}  // namespace moba
