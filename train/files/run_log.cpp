#include "train/files/run_log.h"
#include "train/core/file.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

void RunLog::open(const std::string& path, int step) {
    std::ifstream in(path);
    std::string line, kept;
    validated_ = false;
    while (std::getline(in, line)) {
        const json j = json::parse(line, nullptr, false);
        if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer()) { continue; }
        const int64_t at = j["step"].get<int64_t>();
        if (at <= step) { kept += line + "\n"; }
        if (at == step && j.contains("val_loss")) { validated_ = true; }
    }
    in.close();
    replace_file(path, kept);
    path_ = path;
    file_.open(path, std::ios::app);
    if (!file_) { throw_errno(path); }
}

void RunLog::write(const json& line) {
    file_ << line.dump() << "\n";
    file_.flush();
    if (!file_) { throw Error(path_ + ": could not be written (disk full?)"); }
}

}  // namespace moba
