/* Fields of a tokenizer.json, each with its type checked. */
#pragma once
#include "moba/core/base.h"
#include <nlohmann/json.hpp>

namespace moba {

/* An object of the file, such as a normalizer. `where` names the file and the object, for messages. */
class Fields {
  public:
    Fields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
        if (!object.is_object()) { fail("is not an object"); }
    }
    const std::string& where() const { return where_; }
    bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
    const nlohmann::json& at(const char* key) const {
        if (!has(key)) { fail(std::string("'") + key + "' is missing"); }
        return object_[key];
    }
    std::string text(const char* key) const {
        if (!at(key).is_string()) { fail(std::string("'") + key + "' is not a string"); }
        return at(key).get<std::string>();
    }
    std::string text(const char* key, const std::string& otherwise) const {
        return has(key) ? text(key) : otherwise;
    }
    bool flag(const char* key, bool otherwise) const {
        if (!has(key)) { return otherwise; }
        if (!at(key).is_boolean()) { fail(std::string("'") + key + "' is neither true nor false"); }
        return at(key).get<bool>();
    }
    const nlohmann::json& list(const char* key) const {
        if (!at(key).is_array()) { fail(std::string("'") + key + "' is not a list"); }
        return at(key);
    }
    [[noreturn]] void fail(const std::string& what) const { throw Error(where_ + ": " + what); }

  private:
    const nlohmann::json& object_;
    std::string where_;
};

/* The parts of a Sequence, one after another; any other object alone. A Sequence in a Sequence is refused. */
template <class Part>
void each_part(const nlohmann::json& object, const char* list, const std::string& where, Part part) {
    const Fields fields(object, where);
    if (fields.text("type") != "Sequence") { return part(fields); }
    for (const nlohmann::json& one : fields.list(list)) {
        const Fields inner(one, where);
        if (inner.text("type") == "Sequence") { inner.fail("a Sequence in a Sequence is not supported"); }
        part(inner);
    }
}

}  // namespace moba
