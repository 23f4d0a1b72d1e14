/* GGUF: a model in one file, as llama.cpp has it.

   Source   https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian: "GGUF",
            the version, the number of tensors and of settings, the settings, the list of tensors, their
            data
   Needs    data inside the file, and shapes that fit it
   Error    anything else throws Error with the path and the name; nothing is read past the end */
#pragma once
#include "train/core/file.h"
#include "train/files/number_formats.h"
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moba {

struct GgufTensor {
    const NumberFormat* format;
    std::vector<size_t> shape;  // the rows first, as everywhere here; the file has them last
    size_t offset, bytes;       // of its data in the file
    size_t count() const;
};

class Gguf {
  public:
    explicit Gguf(const std::string& path);  // reads all but the data

    const std::string& path() const { return file_.path(); }
    const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
    std::vector<float> floats(const std::string& name) const;

    /* A setting, such as llama.block_count. Throws Error when it is missing or of another type.
       Bytes of a text that are not UTF-8 become U+FFFD. */
    bool has(const std::string& key) const { return settings_.count(key) > 0; }
    std::string text(const std::string& key) const;
    double number(const std::string& key) const;
    int whole(const std::string& key) const;
    bool flag(const std::string& key, bool otherwise) const;
    const nlohmann::json& list(const std::string& key) const;

  private:
    const nlohmann::json& at(const std::string& key) const;
    InputFile file_;
    std::map<std::string, nlohmann::json> settings_;
    std::map<std::string, GgufTensor> tensors_;
};

bool is_gguf(const std::string& path);  // by the end of its name

}  // namespace moba
