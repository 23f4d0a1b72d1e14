/* Files that are whole or not there: what checkpoints, logs and readers share. */
#pragma once
#include "moba/core/base.h"
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

/* A whole file, mapped read-only. Throws Error: missing, a folder, no permission, empty. */
struct MappedFile {
    explicit MappedFile(const std::string& path);
    std::shared_ptr<const char> data;
    size_t bytes = 0;
};

/* Writes piece by piece, then finish() fsyncs. Any failure throws Error with the path and the reason. */
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
/* Before the work rather than after it: throws Error where a plain file could not be written; changes nothing. Links, devices, pipes and
   "" are not looked at. */
void check_writable(const std::string& path);
void replace_file(const std::string& path,
                  const std::string& text);  // a reader sees the old text or the new one
void fsync_folder(const std::string& path);
[[noreturn]] void throw_errno(const std::string& what);  // "<what>: No space left on device"
nlohmann::json read_json(const std::string& path);
nlohmann::json parse_json(const char* text, size_t bytes, const std::string& where);

}  // namespace moba
