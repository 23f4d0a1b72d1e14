#include "train/tokenizer/byte_letters.h"
#include <unordered_map>

namespace moba {

static bool is_visible(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

const std::array<std::string, 256>& byte_letters() {
    static const std::array<std::string, 256> letters = [] {
        std::array<std::string, 256> out;
        int next = 256;
        for (int b = 0; b < 256; b++) {
            const int code = is_visible(b) ? b : next++;  // at most 323: two bytes of UTF-8
            out[b] = code < 128 ? std::string(1, (char)code)
                                : std::string{(char)(0xC0 | code >> 6), (char)(0x80 | (code & 63))};
        }
        return out;
    }();
    return letters;
}

std::string from_byte_letters(const std::string& token) {
    static const std::unordered_map<std::string, char> bytes = [] {
        std::unordered_map<std::string, char> out;
        for (int b = 0; b < 256; b++) { out[byte_letters()[b]] = (char)b; }
        return out;
    }();
    std::string out;
    for (size_t i = 0; i < token.size();) {
        const auto it = bytes.find(token.substr(i, (unsigned char)token[i] < 0x80 ? 1 : 2));
        if (it == bytes.end()) { return token; }
        out += it->second;
        i += it->first.size();
    }
    return out;
}

void append_byte_letters(std::string_view text, std::string& out) {
    for (const char c : text) { out += byte_letters()[(unsigned char)c]; }
}

}  // namespace moba
