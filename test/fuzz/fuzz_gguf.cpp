// GGUF files: settings and tensors, all of them as floats; the Llama in them with its weights; their
// tokenizer.
#include "moba/model.h"
#include "test/fuzz/fuzz.h"
#include "train/files/checkpoint.h"
#include "train/files/gguf.h"
#include "train/tokenizer/tokenizer.h"

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string path = fuzz_file("x.gguf", data, size);
    refuses_or_reads([&] {
        const Gguf file(path);
        for (const auto& [name, tensor] : file.tensors()) {
            if (file.floats(name).size() != tensor.count()) { std::abort(); }
        }
    });
    refuses_or_reads([&] {
        const Tokenizer t(path);
        for (int id = -1; id < 300; id++) { t.text(id); }
        t.encode("A text, 12 words\nand <s>names</s>.", SpecialNames::tokens);
        t.begin_tokens();
    });
    return refuses_or_reads([&] {
        const ModelFolder folder = open_model(path);
        read_kept_files(folder);
        Model<float> model(folder.config, {.max_tokens = 4, .max_seqs = 1, .max_position = 4});
        if (model.bytes() > 16 << 20) { return; }
        model.allocate();
        load_weights(folder, model);
    });
}
