/* Numbers of weights files, as floats: F16, and the block formats of GGUF files.

   Source   ggml (https://github.com/ggml-org/ggml): Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 have 32 numbers in a block,
            Q2_K to Q6_K 256. A block has scales in F16 and small whole numbers q: x = scale * q + offset */
#pragma once
#include <cstddef>
#include <cstdint>

namespace moba {

float half_to_float(uint16_t bits);

struct NumberFormat {
    int id;  // in GGUF
    const char* name;
    size_t block_numbers, block_bytes;
};
/* The format with this id, or nullptr if it is not known. */
const NumberFormat* find_number_format(uint32_t id);

/* data: `count` numbers, whole blocks. */
void to_floats(const NumberFormat&, const uint8_t* data, size_t count, float* out);

}  // namespace moba
