/* The weights of a model: model.safetensors, or the shards that model.safetensors.index.json names; or those
   of a .gguf file (gguf_model.h).

   Names    as in Hugging Face's Llama, with what other programs put in: `_orig_mod.` (torch.compile),
            `module.` (DistributedDataParallel), those of FSDP, a second `model.`; without the `model.`
   Tied     one of the two names is enough. If __metadata__ says that two names are one tensor, as
            safetensors' save_model() writes it, either is accepted
   Ignored  tables that are computed anew: RoPE's, attention masks; and a tied model's lm_head.weight beside
            the embedding
   Errors   throws Error: a weight that is missing, a tensor that belongs to no weight, two for one weight;
            weights in another format, by the name of their file */
#pragma once
#include "moba/params.h"
#include "train/files/gguf.h"
#include "train/files/safetensors.h"
#include <map>
#include <optional>

namespace moba {

/* The error for a folder that cannot be used: it is an adapter, or `what`. Names the weights files found
   there; `advice` says what to do with them. */
Error no_model(const std::string& folder, const std::string& what, const std::string& advice = "");

/* A tensor in a file, as load_weights needs it. It refers to the reader of that file. */
struct StoredTensor {
    std::string file, name;
    std::vector<size_t> shape;
    std::function<std::vector<float>()> values;
};
StoredTensor stored_tensor(const Safetensors&, const std::string& name);

class Weights {
  public:
    Weights(const std::string& path, const std::vector<ParamInfo>&, bool tied);

    StoredTensor find(const std::string& weight) const;

  private:
    struct Place {
        const Safetensors* file;
        std::string name;  // in that file
    };
    void open(const std::string& folder);
    void open_gguf(const std::string& path, const std::vector<ParamInfo>&);
    std::optional<Gguf> gguf_;
    std::vector<Safetensors> files_;
    std::map<std::string, Place> places_;  // by the weight's name
};

}  // namespace moba
