#include "train/files/safetensors.h"
#include "train/files/number_formats.h"
#include <algorithm>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

static size_t dtype_bytes(const std::string& dtype) {
    static const std::map<std::string, size_t> bytes = {
        {"F64", 8},     {"F32", 4},     {"F16", 2},         {"BF16", 2},       {"I64", 8},
        {"I32", 4},     {"I16", 2},     {"I8", 1},          {"U8", 1},         {"BOOL", 1},
        {"U16", 2},     {"U32", 4},     {"U64", 8},         {"C64", 8},        {"F8_E4M3", 1},
        {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1}};
    const auto it = bytes.find(dtype);
    return it == bytes.end() ? 0 : it->second;
}

size_t TensorView::count() const {
    size_t n = 1;
    for (size_t d : shape) { n *= d; }
    return n;
}

Safetensors::Safetensors(const std::string& path) : file_(path) {
    const std::string other = what_it_is(file_);
    need(other.empty(), path + ": is " + other + ", not a safetensors file");
    need(file_.bytes() >= 8, path + ": is too short for a safetensors file");
    uint64_t header_bytes;
    file_.read(0, &header_bytes, 8);
    need(header_bytes <= file_.bytes() - 8 && header_bytes <= 100000000,
         path + ": is truncated, or is not a safetensors file");
    std::string header(header_bytes, ' ');
    file_.read(8, header.data(), header_bytes);
    const size_t data = 8 + header_bytes, data_bytes = file_.bytes() - data;
    const json j = parse_json(header.data(), header_bytes, path + ": header");
    need(j.is_object(), path + ": its header is not a JSON object");
    std::vector<std::pair<size_t, size_t>> spans;
    for (const auto& [name, t] : j.items()) {
        if (name == "__metadata__") {
            need(t.is_object(), path + ": '__metadata__' is not an object");
            for (const auto& [key, v] : t.items()) {
                need(v.is_string(),
                     path + ": '__metadata__' holds a value that is not a string: '" + key + "'");
                metadata_[key] = v.get<std::string>();
            }
            continue;
        }
        const std::string where = path + ": tensor '" + name + "'";
        const auto is_size = [](const json& v) { return v.is_number_unsigned(); };
        need(t.is_object() && t.contains("dtype") && t.contains("shape") && t.contains("data_offsets") &&
                 t["dtype"].is_string() && t["shape"].is_array() && t["data_offsets"].is_array() &&
                 t["data_offsets"].size() == 2 &&
                 std::all_of(t["shape"].begin(), t["shape"].end(), is_size) &&
                 std::all_of(t["data_offsets"].begin(), t["data_offsets"].end(), is_size),
             where + ": needs 'dtype' (a string), 'shape' (sizes) and 'data_offsets' (begin and end)");
        TensorView view{.dtype = t["dtype"].get<std::string>(), .shape = {}, .offset = 0, .bytes = 0};
        const size_t begin = t["data_offsets"][0].get<size_t>(), end = t["data_offsets"][1].get<size_t>();
        need(begin <= end && end <= data_bytes,
             where + ": its data lies beyond the end of the file, which may be truncated");
        size_t bytes = dtype_bytes(view.dtype);
        need(bytes > 0, where + ": has the unknown type '" + view.dtype + "'");
        for (const json& d : t["shape"]) {
            view.shape.push_back(d.get<size_t>());
            need(view.shape.back() == 0 || bytes <= data_bytes / view.shape.back() + 1,
                 where + ": its shape needs more bytes than the file has");
            bytes *= view.shape.back();
        }
        need(bytes == end - begin, where + ": its shape needs " + std::to_string(bytes) +
                                       " bytes, but it has " + std::to_string(end - begin));
        view.offset = data + begin;
        view.bytes = bytes;
        spans.emplace_back(begin, end);
        tensors_[name] = view;
    }
    std::sort(spans.begin(), spans.end());
    size_t at = 0;
    for (const auto& [begin, end] : spans) {
        need(begin == at,
             path + ": tensors overlap or leave a gap at byte " + std::to_string(at) + " of the data");
        at = end;
    }
    need(at == data_bytes,
         path + ": " + std::to_string(data_bytes - at) + " unused bytes after the last tensor");
}

const TensorView& Safetensors::at(const std::string& name) const {
    const auto it = tensors_.find(name);
    need(it != tensors_.end(), path() + ": tensor '" + name + "' is missing");
    return it->second;
}

const std::string& Safetensors::setting(const std::string& name) const {
    const auto it = metadata_.find(name);
    need(it != metadata_.end(), path() + ": '" + name + "' is missing in '__metadata__'");
    return it->second;
}

std::vector<float> Safetensors::floats(const std::string& name) const {
    const TensorView& t = at(name);
    std::vector<float> out(t.count());
    if (t.dtype == "F32") {
        file_.read(t.offset, out.data(), t.bytes);
        return out;
    }
    need(t.dtype == "F16" || t.dtype == "BF16",
         path() + ": tensor '" + name + "' has type " + t.dtype + ", but must be F32, F16 or BF16");
    std::vector<uint16_t> raw(out.size());
    file_.read(t.offset, raw.data(), t.bytes);
    for (size_t i = 0; i < out.size(); i++) {
        bf16 x;
        x.bits = raw[i];
        out[i] = t.dtype == "BF16" ? (float)x : half_to_float(x.bits);
    }
    return out;
}

std::vector<int> Safetensors::ints(const std::string& name) const {
    const TensorView& t = at(name);
    need(t.dtype == "I32", path() + ": tensor '" + name + "' has type " + t.dtype + ", but must be I32");
    std::vector<int> out(t.count());
    file_.read(t.offset, out.data(), t.bytes);
    return out;
}

std::vector<char> Safetensors::bytes(const std::string& name) const {
    const TensorView& t = at(name);
    std::vector<char> out(t.bytes);
    file_.read(t.offset, out.data(), t.bytes);
    return out;
}

void write_safetensors(const std::string& path, const std::vector<TensorSpec>& tensors,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void(size_t, std::vector<float>&)>& fill) {
    json header = json::object();
    if (!metadata.empty()) { header["__metadata__"] = metadata; }
    size_t offset = 0;
    std::vector<size_t> counts;
    for (const TensorSpec& t : tensors) {
        size_t count = 1;
        for (int d : t.shape) { count *= d; }
        counts.push_back(count);
        header[t.name] = {
            {"dtype", "F32"}, {"shape", t.shape}, {"data_offsets", {offset, offset + 4 * count}}};
        offset += 4 * count;
    }
    std::string text = header.dump();
    text.resize(round_up(text.size(), (size_t)8), ' ');
    const uint64_t header_bytes = text.size();
    FileWriter file(path);
    file.write(&header_bytes, 8);
    file.write(text.data(), text.size());
    std::vector<float> values;
    for (size_t i = 0; i < tensors.size(); i++) {
        fill(i, values);
        REQUIRE(values.size() == counts[i], "%zu values for '%s'", values.size(), tensors[i].name.c_str());
        file.write(values.data(), values.size() * 4);
    }
    file.finish();
}

}  // namespace moba
