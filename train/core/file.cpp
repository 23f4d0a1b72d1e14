#include "train/core/file.h"
#include "train/core/utf8.h"
#include <cerrno>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace moba {

static const size_t most_read = (size_t)256 << 20;

void throw_errno(const std::string& what) { throw Error(what + ": " + std::strerror(errno)); }

// Names and text from hostile files appear in messages, which must not contain control characters.
std::string one_line(std::string text) {
    for (char& c : text) {
        if ((unsigned char)c < 32 || c == 127) { c = '?'; }
    }
    if (text.size() > 1000) {
        size_t end = 1000;
        while (continues_character(text[end]) && end > 996) { end--; }  // between two characters
        text = text.substr(0, end) + " ...";
    }
    return valid_utf8(text);
}

std::shared_ptr<int> shared_descriptor(int fd) {
    return std::shared_ptr<int>(new int(fd), [](int* p) {
        close(*p);
        delete p;
    });
}

static int open_to_read(const std::string& path) {
    // O_NONBLOCK does not wait for a pipe, which the caller rejects.
    return open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

InputFile::InputFile(const std::string& path) : path_(path) {
    int fd = open_to_read(path);
    if (fd < 0 && errno == EMFILE) {  // many shards: as many as the system allows
        rlimit limit;
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        fd = open_to_read(path);
    }
    if (fd < 0) {
        const int reason = errno;
        is_there(path);  // throws a clearer message for a link to nothing
        errno = reason;
        throw_errno(path);
    }
    fd_ = shared_descriptor(fd);
    struct stat s {};
    if (fstat(fd, &s) != 0) { throw_errno(path); }
    if (S_ISDIR(s.st_mode)) { throw Error(path + ": is a folder, not a file"); }
    if (!S_ISREG(s.st_mode)) {
        throw Error(path +
                    ": is a pipe or a device. Files are read at any place, so this must be a regular " +
                    "file: write it to one first");
    }
    if (s.st_size == 0) { throw Error(path + ": is empty"); }
    bytes_ = (size_t)s.st_size;
}

void InputFile::read(size_t offset, void* out, size_t bytes) const {
    char* to = (char*)out;
    while (bytes > 0) {
        const ssize_t n = pread(*fd_, to, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) { continue; }
        if (n < 0) { throw_errno(path_); }
        if (n == 0) { throw Error(path_ + ": has become shorter than when it was opened"); }
        to += n, offset += (size_t)n, bytes -= (size_t)n;
    }
}

std::string InputFile::text() const {
    std::string text(bytes_, '\0');
    read(0, text.data(), text.size());
    return text;
}

std::string read_file(const std::string& path) { return InputFile(path).text(); }

std::string what_it_is(const InputFile& file) {
    static const std::pair<std::string, const char*> known[] = {
        {"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched (git lfs pull)"},
        {"<!DOCTYPE", "a web page"},
        {"<html", "a web page"},
        {"GGUF", "a GGUF file"},
        {"PK\3\4", "a zip file (PyTorch's .bin and .pt are)"},
        {"\x1f\x8b", "a gzip file"},
        {"\x28\xb5\x2f\xfd", "a zstd file"},
        {"\xfd\x37zXZ", "an xz file"},
        {"\x04\x22\x4d\x18", "an lz4 file"},
        {"BZh", "a bzip2 file"},
        {"7z\xbc\xaf\x27\x1c", "a 7z file"},
        {"PAR1", "a Parquet file"},
        {"ARROW1", "an Arrow file"}};
    std::string begin(std::min<size_t>(file.bytes(), 32), ' ');
    file.read(0, begin.data(), begin.size());
    for (const auto& [mark, name] : known) {
        if (begin.compare(0, mark.size(), mark) == 0) { return name; }
    }
    return "";
}

bool is_there(const std::string& path) {
    struct stat s;
    if (stat(path.c_str(), &s) == 0) { return true; }
    if (errno != ENOENT && errno != ENOTDIR) { throw_errno(path); }
    if (lstat(path.c_str(), &s) == 0) { throw Error(path + ": is a link to something that does not exist"); }
    return false;
}

std::string read_all(const std::string& path) {
    const bool given = path == "-";
    const int fd = given ? STDIN_FILENO : open(path.c_str(), O_RDONLY);
    const std::string name = given ? "standard input" : path;
    if (fd < 0) { throw_errno(name); }
    struct stat s {};
    if (fstat(fd, &s) == 0 && S_ISDIR(s.st_mode)) {
        close(fd);
        throw Error(name + ": is a folder, not a file");
    }
    std::string text, part(1 << 16, '\0');
    ssize_t n;
    while ((n = read(fd, part.data(), part.size())) != 0 && text.size() <= most_read) {
        if (n < 0 && errno == EINTR) { continue; }
        if (n < 0) { break; }
        text.append(part, 0, (size_t)n);
    }
    const int reason = errno;
    if (!given) { close(fd); }
    if (n < 0) {
        errno = reason;
        throw_errno(name);
    }
    if (text.size() > most_read) { throw Error(name + ": is larger than 256 MB"); }
    return text;
}

FileWriter::FileWriter(const std::string& path) : path_(path) {
    fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd_ < 0) { throw_errno(path); }
}
FileWriter::~FileWriter() {
    if (fd_ >= 0) { close(fd_); }
}
void FileWriter::write(const void* data, size_t bytes) {
    const char* p = (const char*)data;
    while (bytes > 0) {
        const ssize_t n = ::write(fd_, p, bytes);
        if (n < 0 && errno == EINTR) { continue; }
        if (n <= 0) { throw_errno(path_); }
        p += n;
        bytes -= (size_t)n;
    }
}
void FileWriter::finish() {
    const int fd = fd_;
    fd_ = -1;
    if (fsync(fd) != 0 && errno != EINVAL) {  // EINVAL: a pipe or a device, which cannot be synced
        close(fd);
        throw_errno(path_);
    }
    if (close(fd) != 0) { throw_errno(path_); }
}

void write_file(const std::string& path, const std::string& text) {
    FileWriter w(path);
    w.write(text.data(), text.size());
    w.finish();
}

void check_writable(const std::string& path) {
    struct stat s;
    const bool there = !path.empty() && lstat(path.c_str(), &s) == 0;
    if (path.empty() || (there && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode))) { return; }
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0644);
    if (fd < 0) { throw_errno(path); }
    close(fd);
    if (!there) { unlink(path.c_str()); }
}

void replace_file(const std::string& path, const std::string& text) {
    write_file(path + ".tmp", text);
    if (std::rename((path + ".tmp").c_str(), path.c_str()) != 0) { throw_errno(path); }
}

void fsync_folder(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY);
    if (fd < 0) { throw_errno(path); }
    const int failed = fsync(fd);
    close(fd);
    if (failed) { throw_errno(path); }
}

// Every valid file is nested less deeply. A hostile one could make code that is recursive over JSON overflow
// its stack.
static const int deepest_json = 32;

std::string json_text(const nlohmann::json& j) {
    return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

nlohmann::json parse_json(const char* text, size_t bytes, const std::string& where) {
    const auto check = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        if (depth > deepest_json) {
            throw Error(where + ": its JSON is nested too deeply (more than " + std::to_string(deepest_json) +
                        " levels)");
        }
        return true;
    };
    try {
        return nlohmann::json::parse(text, text + bytes, check);
    } catch (const nlohmann::json::exception& e) { throw Error(where + ": not valid JSON: " + e.what()); }
}

nlohmann::json read_json_of_user(const std::string& path) {
    const std::string text = read_all(path);
    return parse_json(text.data(), text.size(), path);
}

nlohmann::json read_json(const std::string& path) {
    const InputFile file(path);
    if (file.bytes() > (size_t)64 << 20) {
        throw Error(path + ": is larger than 64 MB, too large for a JSON file");
    }
    const std::string other = what_it_is(file);
    if (!other.empty()) { throw Error(path + ": is " + other + ", not JSON"); }
    const std::string text = file.text();
    return parse_json(text.data(), text.size(), path);
}

}  // namespace moba
