// The files of --prompt-ids-file and --prompt-file, and what pages and messages make of their bytes.
#include "test/fuzz/fuzz.h"
#include "train/core/file.h"
#include "train/core/utf8.h"
#include "train/run/prompt.h"
#include <nlohmann/json.hpp>

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string path = fuzz_file("prompt", data, size);
    return refuses_or_reads([&] {
        PromptOptions text;
        text.file = path;
        const std::string read = read_prompt(text).text;
        if (read != std::string((const char*)data, size)) { std::abort(); }
        nlohmann::json(valid_utf8(read)).dump();  // throws where it is not valid
        nlohmann::json(one_line(read)).dump();
        PromptOptions ids;
        ids.ids_file = path;
        read_prompt(ids);
    });
}
