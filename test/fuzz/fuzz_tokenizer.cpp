// tokenizer.json, and the text of every token id.
#include "test/fuzz/fuzz.h"
#include "train/tokenizer/tokenizer.h"

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string path = fuzz_file("tokenizer.json", data, size);
    return refuses_or_reads([&] {
        const Tokenizer t(path);
        for (int id = -1; id < 1000; id++) { t.text(id); }
    });
}
