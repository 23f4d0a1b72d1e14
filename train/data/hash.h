/* A fast hash of bytes, to notice that they have changed. Not for security. */
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace moba {

/* `seed`: the hash of what comes before. */
inline uint64_t hash_bytes(const void* data, size_t bytes, uint64_t seed = 0) {
    const char* p = (const char*)data;
    uint64_t hash = seed ^ (bytes * 0x9E3779B97F4A7C15ull);
    const auto mix = [&](uint64_t word) {  // the multiplier and the shift of MurmurHash2, 64 bits
        word *= 0xC6A4A7935BD1E995ull;
        word ^= word >> 47;
        hash = (hash ^ word * 0xC6A4A7935BD1E995ull) * 0xC6A4A7935BD1E995ull;
    };
    for (; bytes >= 8; p += 8, bytes -= 8) {
        uint64_t word;
        std::memcpy(&word, p, 8);
        mix(word);
    }
    uint64_t rest = 0;
    std::memcpy(&rest, p, bytes);
    mix(rest);
    return hash ^ hash >> 47;
}

/* As text: not every JSON reader keeps 64 bits of a number. */
inline std::string hash_text(uint64_t hash) {
    char text[20];
    std::snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return text;
}

}  // namespace moba
