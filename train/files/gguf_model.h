/* A Llama in a GGUF file, in the terms of a Hugging Face folder.

   Source   llama.cpp, architecture llama. Its RoPE turns pairs of neighbouring channels, so the rows of q and
            k are stored in another order; gguf_weight() puts them back
   Error    throws Error: another architecture, experts, biases, a kind of RoPE that is not known */
#pragma once
#include "train/files/gguf.h"

namespace moba {

/* config.json: sizes, RoPE, begin and end tokens. */
nlohmann::json gguf_config(const Gguf&);

/* tokenizer.json. A pre-tokenizer that is not known gets a type that the encoder refuses by name, because
   decoding needs none. */
nlohmann::json gguf_tokenizer(const Gguf&);

/* The chat template, or "". */
std::string gguf_chat_template(const Gguf&);

/* The name in the file of a weight by its name in Hugging Face's Llama, "" for none. */
std::string gguf_name(const std::string& weight);

/* The values of a weight, in Hugging Face's order. */
std::vector<float> gguf_weight(const Gguf&, const std::string& weight);

}  // namespace moba
