/* The normalizer of a tokenizer.json: what is changed in a text before it is cut.

   Known    NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, ByteLevel, Precompiled,
            and Sequence of these
   Errors   throws Error that names the file and the normalizer for any other one */
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace moba {

class Normalizer {
  public:
    Normalizer() = default;  // changes nothing
    Normalizer(const nlohmann::json& json, const std::string& path);
    bool is_empty() const { return steps_.empty(); }
    std::string apply(std::string_view text) const;  // valid UTF-8

  private:
    std::string where_;
    std::vector<std::function<std::string(std::string_view)>> steps_;
};

}  // namespace moba
