#include "train/core/scratch_folder.h"
#include "train/core/file.h"
#include <filesystem>

namespace moba {

namespace fs = std::filesystem;

ScratchFolder::ScratchFolder() {
    std::error_code error;
    const fs::path root = fs::temp_directory_path(error);
    if (error) { throw Error("no folder for temporary files (TMPDIR): " + error.message()); }
    path_ = (root / "moba-XXXXXX").string();
    if (!mkdtemp(path_.data())) { throw_errno(path_); }
}

ScratchFolder::~ScratchFolder() {
    std::error_code ignore;
    fs::remove_all(path_, ignore);
}

}  // namespace moba
