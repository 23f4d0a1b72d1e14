// model.safetensors.index.json, with the weights of a small model in the file that the index may name.
#include "moba/model.h"
#include "test/fuzz/fuzz.h"
#include "train/files/checkpoint.h"
#include "train/files/safetensors.h"

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Model<float>& model = *[] {
        Config c;
        c.vocab_size = 3, c.hidden_size = 2, c.num_layers = 1, c.head_dim = 2, c.intermediate_size = 2;
        c.layers = parse_layers("full", 1);
        auto* m = new Model<float>(c, {.max_tokens = 1, .max_seqs = 1, .max_position = 1});
        m->allocate();
        std::vector<TensorSpec> specs;
        for (const ParamInfo& p : m->params()) { specs.push_back({p.name, p.shape}); }
        write_safetensors(fuzz_folder() + "/a.safetensors", specs, {},
                          [&](size_t i, std::vector<float>& out) { out.resize(m->params()[i].count); });
        return m;
    }();
    fuzz_file("model.safetensors.index.json", data, size);
    return refuses_or_reads([&] {
        ModelFolder folder;
        folder.path = fuzz_folder();
        load_weights(folder, model);
    });
}
