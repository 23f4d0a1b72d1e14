/* What the fuzz targets share: the input as a file, and the rule that every refusal is an Error that says why. */
#pragma once
#include "moba/core/base.h"
#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace moba {

/* A folder of this process, in memory where there is such a place. */
inline std::string fuzz_folder() {
    static const std::string& folder = *[] {  // never destroyed: atexit needs it
        const std::string root = std::filesystem::exists("/dev/shm") ? "/dev/shm" : "/tmp";
        const std::string f = root + "/moba-fuzz-" + std::to_string(getpid());
        std::filesystem::create_directories(f);
        std::atexit([] { std::filesystem::remove_all(fuzz_folder()); });
        return new std::string(f);
    }();
    return folder;
}

inline std::string fuzz_file(const std::string& name, const uint8_t* data, size_t size) {
    const std::string path = fuzz_folder() + "/" + name;
    std::ofstream(path, std::ios::binary).write((const char*)data, (std::streamsize)size);
    return path;
}

template <class F>
int refuses_or_reads(F f) {
    try {
        f();
    } catch (const Error& e) {
        if (e.what()[0] == 0) { std::abort(); }  // a refusal says why
    }
    return 0;
}

}  // namespace moba
