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

/* A file that is read in pieces. Unlike a mapped one, a file that becomes shorter meanwhile is an Error that
   names it, and not a signal that ends the process. Throws Error as MappedFile. */
class InputFile {
  public:
    explicit InputFile(const std::string& path);
    const std::string& path() const { return path_; }
    size_t bytes() const { return bytes_; }  // when it was opened
    void read(size_t offset, void* out, size_t bytes) const;

  private:
    std::string path_;
    std::shared_ptr<int> fd_;
    size_t bytes_ = 0;
};

std::string read_file(const std::string& path);  // all of it

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

std::string one_line(std::string text);  // control characters become ?
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
