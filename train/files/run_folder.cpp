#include "train/files/run_folder.h"
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <tuple>
#include <unistd.h>
#include <vector>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

bool FolderLock::take(const std::string& dir) {
    const std::string path = dir + "/lock";
    const int fd = open(path.c_str(), O_CREAT | O_RDWR, 0666);
    if (fd < 0) { throw_errno(path); }
    fd_ = shared_descriptor(fd);
    // Any other error: a file system without locks. Training there must be possible.
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

namespace {

bool is_checkpoint_name(const std::string& name) {
    int step;
    char rest;
    return std::sscanf(name.c_str(), "step-%9d%c", &step, &rest) == 1 && step >= 0;
}

uint64_t save_of(const std::string& checkpoint) {
    try {
        const json save = read_json(checkpoint + "/state.json").at("save");
        if (save.is_number_unsigned() && save <= 1e15) { return save.get<uint64_t>(); }
    } catch (const std::exception&) {}  // missing or damaged: read_state() reports it if the file is needed
    return 0;
}

// A process that dies in between leaves a .tmp, never half a checkpoint.
void remove_checkpoint(const std::string& path) {
    fs::remove_all(path + ".tmp");
    fs::rename(path, path + ".tmp");
    fs::remove_all(path + ".tmp");
}

}  // namespace

std::vector<SavedCheckpoint> saved_checkpoints(const std::string& dir) {
    std::vector<SavedCheckpoint> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(dir, error)) {
        const std::string name = entry.path().filename();
        if (!is_checkpoint_name(name)) { continue; }
        const auto time = fs::last_write_time(entry.path() / "state.json", error);
        if (!error) { found.push_back({save_of(entry.path()), time, std::stoi(name.substr(5)), name}); }
    }
    std::sort(found.begin(), found.end(), [](const SavedCheckpoint& a, const SavedCheckpoint& b) {
        return std::tie(a.save, a.time, a.step) > std::tie(b.save, b.time, b.step);
    });
    return found;
}

std::string latest_name(const std::string& dir) {
    const std::string latest = dir + "/latest";
    std::error_code error;
    std::string name = fs::read_symlink(latest, error).string();
    if (error && fs::is_regular_file(latest, error)) {
        std::ifstream file(latest);
        std::getline(file, name);
    }
    return is_checkpoint_name(name) ? name : "";
}

std::string latest_checkpoint(const std::string& dir) {
    std::error_code ignore;
    const std::string latest = dir + "/latest", name = latest_name(dir);
    for (const std::string& path : {latest, name.empty() ? "" : dir + "/" + name}) {
        if (fs::is_directory(path, ignore)) { return fs::exists(path + "/config.json", ignore) ? path : ""; }
    }
    const std::vector<SavedCheckpoint> saved = saved_checkpoints(dir);
    return saved.empty() ? "" : dir + "/" + saved[0].name;
}

uint64_t next_save(const std::string& dir, const std::vector<SavedCheckpoint>& saved) {
    uint64_t last =
        save_of(dir + "/latest");  // may be a folder itself (a copied run), and then `saved` does not list it
    for (const SavedCheckpoint& s : saved) { last = std::max(last, s.save); }
    return last + 1;
}

void set_latest(const std::string& dir, const std::string& name) {
    const std::string next = dir + "/latest.tmp";
    fs::remove(next);
    std::error_code no_links;
    fs::create_directory_symlink(name, next, no_links);
    if (no_links) { write_file(next, name + "\n"); }
    fs::rename(next, dir + "/latest");
    fsync_folder(dir);
}

void restore_latest_link(const std::string& dir, int step) {
    const std::string latest = dir + "/latest", name = "step-" + std::to_string(step), to = dir + "/" + name;
    std::error_code none;
    if (fs::symlink_status(latest, none).type() != fs::file_type::directory) { return; }
    // Until `latest` is there again, the newest checkpoint counts, so this one must be the newest.
    json state = read_json(latest + "/state.json");
    state["save"] = next_save(dir, saved_checkpoints(dir));
    replace_file(latest + "/state.json", state.dump(2) + "\n");
    if (fs::exists(to)) {
        fs::remove_all(to + ".tmp");
        fs::rename(to, to + ".tmp");  // the next save deletes it
    }
    fs::rename(latest, to);
    set_latest(dir, name);
}

void remove_old_checkpoints(const std::string& dir, const std::vector<SavedCheckpoint>& saved) {
    const std::string latest = latest_name(dir);
    bool kept = false;
    for (const SavedCheckpoint& s : saved) {
        if (s.name == latest || !fs::exists(dir + "/" + s.name)) { continue; }
        if (kept) { remove_checkpoint(dir + "/" + s.name); }
        kept = true;
    }
}

void remove_unfinished_checkpoints(const std::string& dir) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(dir, none)) {
        const fs::path& path = entry.path();
        if (path.extension() == ".tmp" && is_checkpoint_name(path.stem())) { fs::remove_all(path); }
    }
}

void clear_run(const std::string& dir) {
    remove_unfinished_checkpoints(dir);
    fs::remove_all(dir + "/latest");
    for (const SavedCheckpoint& s : saved_checkpoints(dir)) { remove_checkpoint(dir + "/" + s.name); }
    fs::remove(dir + "/log.jsonl");
}

}  // namespace moba
