#include "train/plot/event_file.h"
#include <array>
#include <bit>
#include <cstring>

namespace moba {

namespace {

std::array<uint32_t, 256> crc_table() {
    std::array<uint32_t, 256> table;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) { c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1; }
        table[i] = c;
    }
    return table;
}
uint32_t masked_crc(const std::string& data) {
    static const std::array<uint32_t, 256> table = crc_table();
    uint32_t c = ~0u;
    for (const char x : data) { c = table[(c ^ (uint8_t)x) & 0xFF] ^ c >> 8; }
    c = ~c;
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

std::string bytes_of(const auto& x) {
    static_assert(std::endian::native == std::endian::little);
    return {(const char*)&x, sizeof(x)};
}
std::string varint(uint64_t x) {
    std::string out;
    for (; x >= 128; x >>= 7) { out += (char)(x | 128); }
    return out + (char)x;
}

// A protobuf field begins with its number and its type: 0 varint, 1 eight bytes, 2 length and data, 5 four
// bytes.
std::string field(int number, int type) { return varint((uint64_t)number << 3 | (uint64_t)type); }
std::string text_field(int number, const std::string& x) { return field(number, 2) + varint(x.size()) + x; }
std::string event(double seconds, int64_t step, const std::string& what) {
    return field(1, 1) + bytes_of(seconds) + field(2, 0) + varint((uint64_t)step) + what;
}

}  // namespace

EventFile::EventFile(const std::string& path, double seconds) : file_(path) {
    record(event(seconds, 0, text_field(3, "brain.Event:2")));
}

void EventFile::scalar(const std::string& name, int64_t step, double seconds, double value) {
    const std::string v = text_field(1, name) + field(2, 5) + bytes_of((float)value);
    record(event(seconds, step, text_field(5, text_field(1, v))));
}

void EventFile::record(const std::string& event) {
    const std::string length = bytes_of((uint64_t)event.size());
    const std::string out = length + bytes_of(masked_crc(length)) + event + bytes_of(masked_crc(event));
    file_.write(out.data(), out.size());
}

}  // namespace moba
