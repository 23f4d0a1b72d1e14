/* --precision at run time: f(float()) or f(bf16()), everything behind it a template on that element type. Master weights,
   gradients, moments and files are fp32 in both. */
#pragma once
#include "moba/core/base.h"

namespace moba {

template <class F>
auto with_precision(const std::string& name, F f) {
    return name == "bf16" ? f(bf16()) : f(float());
}

}  // namespace moba
