/* Shared by the fuzz targets: the input written to a file, and the rule that input is refused with an Error
   that says why. */
#pragma once
#include "moba/core/base.h"
#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace moba {

/* A temporary folder for this process, in memory where /dev/shm exists. */
inline std::string fuzz_folder() {
    // never destroyed, because the atexit handler uses it
    static const std::string& folder = *[] {
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
        if (e.what()[0] == 0) { std::abort(); }  // the message must not be empty
    }
    return 0;
}

}  // namespace moba
