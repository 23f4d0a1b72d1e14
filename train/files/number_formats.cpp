#include "train/files/number_formats.h"
#include "moba/core/base.h"
#include <cmath>
#include <cstring>

namespace moba {

float half_to_float(uint16_t h) {
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const float sign = h >> 15 ? -1.f : 1.f;
    if (exponent == 31) { return mantissa ? NAN : sign * INFINITY; }
    return sign *
           (exponent ? std::ldexp(1024.f + mantissa, exponent - 25) : std::ldexp((float)mantissa, -24));
}

namespace {

enum Id {
    f32 = 0,
    f16 = 1,
    q4_0 = 2,
    q4_1 = 3,
    q5_0 = 6,
    q5_1 = 7,
    q8_0 = 8,
    q2_k = 10,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
    f_bf16 = 30
};

const NumberFormat formats[] = {
    {f32, "F32", 1, 4},       {f16, "F16", 1, 2},       {f_bf16, "BF16", 1, 2},   {q4_0, "Q4_0", 32, 18},
    {q4_1, "Q4_1", 32, 20},   {q5_0, "Q5_0", 32, 22},   {q5_1, "Q5_1", 32, 24},   {q8_0, "Q8_0", 32, 34},
    {q2_k, "Q2_K", 256, 84},  {q3_k, "Q3_K", 256, 110}, {q4_k, "Q4_K", 256, 144}, {q5_k, "Q5_K", 256, 176},
    {q6_k, "Q6_K", 256, 210},
};

float half_at(const uint8_t* p) {
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return half_to_float(bits);
}

// Numbers i and i + 16 are the low and the high half of byte i; fifth bits, if any, are those of one uint32.
void block_of_32(int id, const uint8_t* p, float* out) {
    const float scale = half_at(p);
    const bool has_offset = id == q4_1 || id == q5_1, five_bits = id == q5_0 || id == q5_1;
    const float offset = has_offset ? half_at(p + 2) : 0;
    p += has_offset ? 4 : 2;
    if (id == q8_0) {
        for (int i = 0; i < 32; i++) { out[i] = scale * (float)(int8_t)p[i]; }
        return;
    }
    uint32_t fifth = 0;
    if (five_bits) {
        std::memcpy(&fifth, p, 4);
        p += 4;
    }
    const int middle = has_offset ? 0 : five_bits ? 16 : 8;
    for (int i = 0; i < 32; i++) {
        const int low = i < 16 ? p[i] & 15 : p[i - 16] >> 4;
        const int q = low | (int)(fifth >> i & 1) << 4;
        out[i] = scale * (float)(q - middle) + offset;
    }
}

// 8 groups of 32 numbers; 12 bytes hold 8 scales and 8 offsets of 6 bits.
void block_q4_q5(bool five_bits, const uint8_t* p, float* out) {
    const float scale = half_at(p), offset = half_at(p + 2);
    const uint8_t *packed = p + 4, *high = p + 16, *low = five_bits ? p + 48 : p + 16;
    for (int g = 0; g < 8; g++) {
        const int s = g < 4 ? packed[g] & 63 : (packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4;
        const int m = g < 4 ? packed[g + 4] & 63 : packed[g + 4] >> 4 | (packed[g] >> 6) << 4;
        for (int i = 0; i < 32; i++) {
            const uint8_t byte = low[g / 2 * 32 + i];
            int q = g % 2 ? byte >> 4 : byte & 15;
            if (five_bits) { q |= (high[i] >> g & 1) << 4; }
            out[g * 32 + i] = scale * (float)s * (float)q - offset * (float)m;
        }
    }
}

// 16 groups of 16 numbers of 2 bits; a byte per group holds scale and offset.
void block_q2(const uint8_t* p, float* out) {
    const uint8_t* q = p + 16;
    const float scale = half_at(p + 80), offset = half_at(p + 82);
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, shift = i % 128 / 32 * 2, group = i / 16;
        const int value = q[half * 32 + i % 32] >> shift & 3;
        out[i] = scale * (float)(p[group] & 15) * (float)value - offset * (float)(p[group] >> 4);
    }
}

// 16 groups of 16 numbers of 3 bits; 12 bytes hold 16 scales of 6 bits.
void block_q3(const uint8_t* p, float* out) {
    const uint8_t *high = p, *q = p + 32, *packed = p + 96;
    const float scale = half_at(p + 108);
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, part = i % 128 / 32, group = i / 16;
        const int low = q[half * 32 + i % 32] >> 2 * part & 3;
        const int value = low - (high[i % 32] >> (4 * half + part) & 1 ? 0 : 4);
        const int s = (group < 8 ? packed[group] & 15 : packed[group - 8] >> 4) |
                      (packed[8 + group % 4] >> group / 4 * 2 & 3) << 4;
        out[i] = scale * (float)(s - 32) * (float)value;
    }
}

// 16 groups of 16 numbers of 6 bits, with scales of 8 bits.
void block_q6(const uint8_t* p, float* out) {
    const uint8_t *low = p, *high = p + 128;
    const auto* scales = (const int8_t*)(p + 192);
    const float scale = half_at(p + 208);
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, part = i % 128 / 32, j = i % 32;
        const uint8_t byte = low[half * 64 + part % 2 * 32 + j];
        const int q = (part < 2 ? byte & 15 : byte >> 4) | (high[half * 32 + j] >> 2 * part & 3) << 4;
        out[i] = scale * (float)scales[i / 16] * (float)(q - 32);
    }
}

}  // namespace

const NumberFormat* find_number_format(uint32_t id) {
    for (const NumberFormat& f : formats) {
        if ((uint32_t)f.id == id) { return &f; }
    }
    return nullptr;
}

void to_floats(const NumberFormat& f, const uint8_t* data, size_t count, float* out) {
    for (size_t i = 0; i < count; i += f.block_numbers, data += f.block_bytes) {
        switch (f.id) {
        case f32:
            std::memcpy(out + i, data, 4);
            break;
        case f16:
            out[i] = half_at(data);
            break;
        case f_bf16: {
            bf16 x;
            std::memcpy(&x.bits, data, 2);
            out[i] = (float)x;
            break;
        }
        case q2_k:
            block_q2(data, out + i);
            break;
        case q3_k:
            block_q3(data, out + i);
            break;
        case q4_k:
            block_q4_q5(false, data, out + i);
            break;
        case q5_k:
            block_q4_q5(true, data, out + i);
            break;
        case q6_k:
            block_q6(data, out + i);
            break;
        default:
            block_of_32(f.id, data, out + i);
        }
    }
}

}  // namespace moba
