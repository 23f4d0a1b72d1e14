// Token files. If the input begins with '{', it starts with tokens.json (up to the first NUL); the rest is
// the .bin.
#include "test/fuzz/fuzz.h"
#include "train/data/token_files.h"

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::filesystem::remove(fuzz_folder() + "/tokens.json");
    if (size > 0 && data[0] == '{') {
        const uint8_t* end = (const uint8_t*)std::memchr(data, 0, size);
        const size_t json = end ? end - data : size;
        fuzz_file("tokens.json", data, json);
        data += json, size -= json;
        if (size > 0) { data++, size--; }
    }
    const std::string path = fuzz_file("x.bin", data, size);
    return refuses_or_reads([&] {
        const TokenFiles files({path, path});
        std::vector<int> ids(files.size());
        files.read(0, ids.size(), ids.data());
    });
}
