/* moba lab: what a GPU profiler's memory counters would say of a kernel, line by line, without a GPU. The
   kernels run on the simulated GPU of the program that `make lab` builds; counts.h says what is exact. */
#pragma once
#include "train/bench/bench_options.h"

namespace moba {

struct LabOptions {
    BenchOptions bench;  // the operation, its version and its sizes
    std::string card = "h100", html, json;
    int blocks = 0, lines = 8;
    bool table = false;
};
void add_lab_options(CLI::App&, LabOptions&);

int run_lab(const LabOptions&);

}  // namespace moba
