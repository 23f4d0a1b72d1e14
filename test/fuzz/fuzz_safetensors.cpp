// Safetensors files: header, offsets, types; then the values of every tensor.
#include "test/fuzz/fuzz.h"
#include "train/files/safetensors.h"

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string path = fuzz_file("x.safetensors", data, size);
    return refuses_or_reads([&] {
        const Safetensors file(path);
        for (const auto& [name, tensor] : file.tensors()) {
            if (tensor.dtype != "I32") { file.floats(name); }
        }
    });
}
