/* Which line of source an instruction comes from, by addr2line of the binutils. */
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace moba {

struct SourceFrame {
    std::string function, file;
    int line;
};
/* The line of an instruction; if it is in an inlined function, then the line that called it, and so on. */
using SourceChain = std::vector<SourceFrame>;

/* Addresses are counted from the beginning of the program. Throws Error if there is no addr2line. */
std::map<uint32_t, SourceChain> source_chains(const std::set<uint32_t>& addresses);

/* As in test/kernels/resources.txt: norm_kernel<bf16, 8> */
std::string kernel_name(const void* kernel);

/* All lines of a source file, or none if it cannot be read. */
const std::vector<std::string>& source_text(const std::string& file);

/* A file's path within the project, or the whole path. */
std::string short_path(const std::string& file);

}  // namespace moba
