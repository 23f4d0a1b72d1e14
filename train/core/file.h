/* Reading and writing files, with errors that name the path. */
#pragma once
#include "moba/core/base.h"
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

/* A whole file, memory-mapped read-only. Throws Error when it is missing, a folder, not readable or empty. */
struct MappedFile {
    explicit MappedFile(const std::string& path);
    std::shared_ptr<const char> data;
    size_t bytes = 0;
};

/* Writes a file piece by piece; finish() fsyncs it. Any failure throws Error with the path and the reason. */
class FileWriter {
  public:
    explicit FileWriter(const std::string& path);
    ~FileWriter();
    void write(const void* data, size_t bytes);
    void finish();

  private:
    std::string path_;
    int fd_;
};

/* All bytes of a file or a pipe, or of standard input for "-", at most 256 MB. */
std::string read_all(const std::string& path);
std::string one_line(std::string text);  // control characters become ?, invalid UTF-8 \xNN
void write_file(const std::string& path, const std::string& text);
/* For use before the work whose result is written: throws Error when a plain file cannot be written there;
   changes nothing. Links, devices, pipes and "" are not checked. */
void check_writable(const std::string& path);
/* A reader sees either all of the old text or all of the new text. */
void replace_file(const std::string& path, const std::string& text);
void fsync_folder(const std::string& path);
[[noreturn]] void throw_errno(const std::string& what);  // "<what>: No space left on device"
nlohmann::json read_json(const std::string& path);
nlohmann::json parse_json(const char* text, size_t bytes, const std::string& where);

}  // namespace moba
