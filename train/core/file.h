/* Reading and writing files, with errors that name the path. */
#pragma once
#include "moba/core/base.h"
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

/* Closes the descriptor with its last owner. */
std::shared_ptr<int> shared_descriptor(int fd);

/* A file that is read in pieces. Throws Error when it is missing, a folder, not readable or empty, and,
   unlike a mapped file, when it has become shorter meanwhile. */
class InputFile {
  public:
    explicit InputFile(const std::string& path);
    const std::string& path() const { return path_; }
    size_t bytes() const { return bytes_; }  // when it was opened
    void read(size_t offset, void* out, size_t bytes) const;
    std::string text() const;  // all of it

  private:
    std::string path_;
    std::shared_ptr<int> fd_;
    size_t bytes_ = 0;
};

std::string read_file(const std::string& path);

/* What a file is instead, where its first bytes tell: "a Git LFS pointer, ...", "a gzip file", ...; or "". */
std::string what_it_is(const InputFile&);

/* Whether there is something at this path. Throws Error when that cannot be known, as without permission, and
   where there is a link to nothing. */
bool is_there(const std::string& path);

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
nlohmann::json read_json_of_user(const std::string& path);  // may also be a pipe, or "-" for standard input
/* On one line. Bytes that are not UTF-8 become U+FFFD. */
std::string json_text(const nlohmann::json&);
nlohmann::json parse_json(const char* text, size_t bytes, const std::string& where);

}  // namespace moba
