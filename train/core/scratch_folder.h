/* A folder for files that nobody needs after the program. */
#pragma once
#include <string>

namespace moba {

/* In $TMPDIR or /tmp; the destructor removes it with everything in it. Throws Error when it cannot be
   made. */
class ScratchFolder {
  public:
    ScratchFolder();
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace moba
