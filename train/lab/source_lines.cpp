#include "train/lab/source_lines.h"
#include "train/lab/counts.h"
#include <cstring>
#include <fstream>
#include <unistd.h>

namespace moba {

std::map<uint32_t, SourceChain> source_chains(const std::set<uint32_t>& addresses) {
    std::map<uint32_t, SourceChain> found;
    if (addresses.empty()) { return found; }
    char program[4096] = {}, list[] = "/tmp/moba-lab-XXXXXX";
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    const int fd = mkstemp(list);
    if (length < 0 || fd < 0) { throw Error("/tmp: no temporary file can be made"); }
    std::string text;
    for (uint32_t a : addresses) {
        char hex[16];
        text += std::string(hex, std::snprintf(hex, sizeof hex, "0x%x\n", a));
    }
    const bool written = write(fd, text.data(), text.size()) == (ssize_t)text.size();
    close(fd);
    FILE* lines =
        written ? popen(("addr2line -a -i -f -C -e '" + std::string(program) + "' < " + list).c_str(), "r")
                : nullptr;
    SourceChain* chain = nullptr;
    std::string function;
    for (char line[65536]; lines && std::fgets(line, sizeof line, lines);) {
        line[std::strcspn(line, "\n")] = 0;
        char* colon = std::strrchr(line, ':');
        if (std::strncmp(line, "0x", 2) == 0) {
            chain = &found[(uint32_t)std::strtoull(line, nullptr, 16)];
            function.clear();
        } else if (function.empty()) {
            function = line;
        } else {
            const bool simulator = std::strstr(line, "/test/simt/");  // a wrapper, in the kernel's line
            if (chain && colon && !simulator) {
                chain->push_back({function, std::string(line, colon), std::atoi(colon + 1)});
            }
            function.clear();
        }
    }
    const int status = lines ? pclose(lines) : -1;
    unlink(list);
    if (status != 0) {
        throw Error("addr2line, which finds the lines of the source, does not run: apt-get install binutils");
    }
    return found;
}

std::string kernel_name(const void* kernel) {
    static std::map<const void*, std::string> names;
    std::string& name = names[kernel];
    if (!name.empty()) { return name; }
    const uint32_t at = (uint32_t)((uintptr_t)kernel - program_base());
    const SourceChain chain = source_chains({at})[at];
    name = chain.empty() ? "?" : chain.back().function;
    if (name.rfind("void ", 0) == 0) { name = name.substr(5); }
    int depth = 0;  // of < and >
    for (size_t i = 0; i < name.size(); i++) {
        depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
        if (name[i] == '(' && depth == 0) { name.resize(i); }
    }
    for (size_t at; (at = name.find("moba::")) != std::string::npos;) { name.erase(at, 6); }
    return name;
}

const std::vector<std::string>& source_text(const std::string& file) {
    static std::map<std::string, std::vector<std::string>> files;
    const auto [it, first] = files.try_emplace(file);
    if (first) {
        std::ifstream in(file);
        for (std::string line; std::getline(in, line);) { it->second.push_back(line); }
    }
    return it->second;
}

std::string short_path(const std::string& file) {
    const std::string root = MOBA_SOURCE_DIR "/";
    return file.rfind(root, 0) == 0 ? file.substr(root.size()) : file;
}

}  // namespace moba
