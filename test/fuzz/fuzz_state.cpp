// state.json of a run to be resumed.
#include "test/fuzz/fuzz.h"
#include "train/files/checkpoint.h"
#include "train/options/options.h"
#include <nlohmann/json.hpp>

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz_file("state.json", data, size);
    return refuses_or_reads([] {
        ModelFolder folder;
        folder.path = fuzz_folder();
        option_words(read_state(folder)["options"]);
    });
}
