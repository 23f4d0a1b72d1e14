#include "train/files/gguf.h"
#include "train/core/utf8.h"
#include <algorithm>
#include <cmath>
#include <cstring>

namespace moba {

using nlohmann::json;

bool is_gguf(const std::string& path) { return path.ends_with(".gguf"); }

size_t GgufTensor::count() const {
    size_t n = 1;
    for (size_t d : shape) { n *= d; }
    return n;
}

namespace {

// Reads a file from its beginning, through a buffer.
class Cursor {
  public:
    explicit Cursor(const InputFile& file) : file_(file) {}
    size_t at() const { return at_; }
    size_t left() const { return file_.bytes() - at_; }
    void read(void* out, size_t bytes) {
        need(bytes <= left(), file_.path() + ": ends in the middle of its header; it may be truncated");
        if (at_ < begin_ || at_ + bytes > begin_ + buffer_.size()) {
            begin_ = at_;
            buffer_.resize(std::min(left(), std::max<size_t>(bytes, 1 << 20)));
            file_.read(begin_, buffer_.data(), buffer_.size());
        }
        std::memcpy(out, buffer_.data() + (at_ - begin_), bytes);
        at_ += bytes;
    }
    template <class X>
    X number() {
        X x;
        read(&x, sizeof x);
        return x;
    }
    std::string text() {
        const auto bytes = number<uint64_t>();
        need(bytes <= left(),
             file_.path() + ": a text of its header is longer than the file, which may be truncated");
        std::string out(bytes, ' ');
        read(out.data(), bytes);
        return out;
    }

  private:
    const InputFile& file_;
    size_t at_ = 0, begin_ = 0;
    std::vector<char> buffer_;
};

constexpr uint32_t type_text = 8, type_list = 9;

json read_value(Cursor& in, uint32_t type, const std::string& where) {
    switch (type) {
    case 0:
        return in.number<uint8_t>();
    case 1:
        return in.number<int8_t>();
    case 2:
        return in.number<uint16_t>();
    case 3:
        return in.number<int16_t>();
    case 4:
        return in.number<uint32_t>();
    case 5:
        return in.number<int32_t>();
    case 6:
        return in.number<float>();
    case 7:
        return in.number<uint8_t>() != 0;
    case type_text:
        return in.text();
    case 10:
        return in.number<uint64_t>();
    case 11:
        return in.number<int64_t>();
    case 12:
        return in.number<double>();
    default:
        break;
    }
    need(type == type_list, where + ": has the unknown type " + std::to_string(type));
    const auto of = in.number<uint32_t>();
    const auto count = in.number<uint64_t>();
    need(of != type_list, where + ": lists of lists are not supported");
    need(count <= in.left(), where + ": its list is longer than the file, which may be truncated");
    json out = json::array();
    for (uint64_t i = 0; i < count; i++) { out.push_back(read_value(in, of, where)); }
    return out;
}

}  // namespace

Gguf::Gguf(const std::string& path) : file_(path) {
    Cursor in(file_);
    char magic[4] = {};
    if (in.left() >= 4) { in.read(magic, 4); }
    if (std::memcmp(magic, "GGUF", 4) != 0) {
        const std::string other = what_it_is(file_);
        throw Error(
            path + ": is " +
            (other.empty() ? "no GGUF file: it does not begin with GGUF" : other + ", not a GGUF file"));
    }
    const auto version = in.number<uint32_t>();
    need(version == 2 || version == 3, path + ": has version " + std::to_string(version) +
                                           " of GGUF; only versions 2 and 3, little-endian, are supported");
    const auto tensors = in.number<uint64_t>(), settings = in.number<uint64_t>();
    for (uint64_t i = 0; i < settings; i++) {
        const std::string key = in.text();
        const auto type = in.number<uint32_t>();
        settings_[key] = read_value(in, type, path + ": '" + key.substr(0, 80) + "'");
    }
    const int alignment = has("general.alignment") ? whole("general.alignment") : 32;
    need(alignment > 0 && alignment % 8 == 0, path + ": general.alignment must be a multiple of 8");
    for (uint64_t i = 0; i < tensors; i++) {
        const std::string name = in.text(), where = path + ": tensor '" + name.substr(0, 80) + "'";
        need(!tensors_.count(name), where + " is there twice");
        const auto dimensions = in.number<uint32_t>();
        need(dimensions >= 1 && dimensions <= 4,
             where + ": has " + std::to_string(dimensions) + " dimensions");
        std::vector<uint64_t> sizes(dimensions);
        for (uint64_t& d : sizes) { d = in.number<uint64_t>(); }
        const auto type = in.number<uint32_t>();
        const auto offset = in.number<uint64_t>();
        const NumberFormat* format = find_number_format(type);
        need(format, where + ": has the number format " + std::to_string(type) +
                         ", which is not supported (known: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, "
                         "Q2_K to Q6_K)");
        need(sizes[0] % format->block_numbers == 0,
             where + ": its rows are not whole blocks of " + format->name);
        size_t count = 1;
        for (uint64_t d : sizes) {
            // every number takes at least an eighth of a byte
            need(d > 0 && d <= 8 * file_.bytes() && count <= 8 * file_.bytes() / d,
                 where + ": its shape needs more bytes than the file has");
            count *= d;
        }
        GgufTensor t{format,
                     {sizes.rbegin(), sizes.rend()},
                     offset,
                     count / format->block_numbers * format->block_bytes};
        tensors_[name] = t;
    }
    const size_t data = round_up(in.at(), (size_t)alignment);
    for (auto& [name, t] : tensors_) {
        const std::string where = path + ": tensor '" + name.substr(0, 80) + "'";
        need(t.offset % (size_t)alignment == 0, where + ": its data is not aligned");
        need(data <= file_.bytes() && t.offset <= file_.bytes() - data &&
                 t.bytes <= file_.bytes() - data - t.offset,
             where + ": its data lies beyond the end of the file, which may be truncated");
        t.offset += data;
    }
}

std::vector<float> Gguf::floats(const std::string& name) const {
    const auto it = tensors_.find(name);
    need(it != tensors_.end(), path() + ": tensor '" + name + "' is missing");
    const GgufTensor& t = it->second;
    std::vector<float> out(t.count());
    constexpr size_t piece = 1 << 16;  // numbers at a time, whole blocks
    std::vector<uint8_t> bytes(piece / t.format->block_numbers * t.format->block_bytes);
    for (size_t done = 0, at = t.offset; done < out.size(); done += piece) {
        const size_t n = std::min(piece, out.size() - done);
        const size_t size = n / t.format->block_numbers * t.format->block_bytes;
        file_.read(at, bytes.data(), size);
        to_floats(*t.format, bytes.data(), n, out.data() + done);
        at += size;
    }
    return out;
}

const json& Gguf::at(const std::string& key) const {
    const auto it = settings_.find(key);
    need(it != settings_.end(), path() + ": '" + key + "' is missing");
    return it->second;
}
std::string Gguf::text(const std::string& key) const {
    need(at(key).is_string(), path() + ": '" + key + "' is not a text");
    return replace_invalid_utf8(at(key).get<std::string>());
}
double Gguf::number(const std::string& key) const {
    need(at(key).is_number(), path() + ": '" + key + "' is not a number");
    return at(key).get<double>();
}
int Gguf::whole(const std::string& key) const {
    const double x = number(key);
    need(x == std::floor(x) && std::abs(x) < 1 << 30,
         path() + ": '" + key + "' is not a whole number, or too large");
    return (int)x;
}
bool Gguf::flag(const std::string& key, bool otherwise) const {
    if (!has(key)) { return otherwise; }
    need(at(key).is_boolean(), path() + ": '" + key + "' is neither true nor false");
    return at(key).get<bool>();
}
const json& Gguf::list(const std::string& key) const {
    need(at(key).is_array(), path() + ": '" + key + "' is not a list");
    return at(key);
}

}  // namespace moba
