/* --precision and --device at run time. with_precision calls f(float()) or f(bf16()), and all it calls is a
   template on that type. Master weights, gradients, moments and files are fp32 in both. */
#pragma once
#include "moba/core/base.h"

namespace moba {

template <class F>
auto with_precision(const std::string& name, F f) {
    return name == "bf16" ? f(bf16()) : f(float());
}

/* --device: cpu, gpu or auto. Throws Error where there is no GPU. */
Device parse_device(const std::string&);

}  // namespace moba
