// The plan of `moba compare`: variants, tasks, and the models that they describe.
#include "test/fuzz/fuzz.h"
#include "train/compare/compare_plan.h"

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string path = fuzz_file("plan.json", data, size);
    return refuses_or_reads([&] {
        CompareOptions o;
        o.config = path;
        o.seeds = 1;
        read_plan(o);
    });
}
