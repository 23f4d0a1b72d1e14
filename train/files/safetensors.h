/* Safetensors: the file format of weights.

   Source   Hugging Face's format: 8 bytes little-endian header length, a JSON header, raw little-endian data.
   Needs    reading: offsets inside the file, in order and without gaps or overlap, sizes that fit the shapes
   Error    anything else throws Error with the path and the tensor's name; nothing is read past the end */
#pragma once
#include "train/core/file.h"
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace moba {

struct TensorView {
    std::string dtype;  // F64, F32, F16, BF16, I32, ...
    std::vector<size_t> shape;
    size_t offset, bytes;  // of its data in the file
    size_t count() const;
};

class Safetensors {
  public:
    explicit Safetensors(const std::string& path);  // reads the header only

    const std::string& path() const { return file_.path(); }
    const std::map<std::string, TensorView>& tensors() const { return tensors_; }
    const std::map<std::string, std::string>& metadata() const { return metadata_; }
    bool has(const std::string& name) const { return tensors_.count(name) > 0; }
    const TensorView& at(const std::string& name) const;
    std::vector<float> floats(const std::string& name) const;   // F32, F16 or BF16
    std::vector<int> ints(const std::string& name) const;       // I32
    std::vector<char> bytes(const std::string& name) const;     // as they are in the file
    const std::string& setting(const std::string& name) const;  // an entry of __metadata__

  private:
    InputFile file_;
    std::map<std::string, TensorView> tensors_;
    std::map<std::string, std::string> metadata_;
};

/* A tensor to write, always as F32. Names and shapes of all tensors come first, then the values of one at a
   time. */
struct TensorSpec {
    std::string name;
    std::vector<int> shape;
};

/* Writes and fsyncs a file. fill(i, values) provides the values of tensor i. Throws Error when the disk is
   full or the path cannot be written. */
void write_safetensors(const std::string& path, const std::vector<TensorSpec>& tensors,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void(size_t, std::vector<float>&)>& fill);

}  // namespace moba
