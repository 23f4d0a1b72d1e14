/* The folder of a training run.

   step-N      a checkpoint (checkpoint.h), complete or absent; step-N.tmp is an unfinished one
   latest      a link to the checkpoint that --resume continues. Where the file system has no links it is a
               file with that name in it; in a copy of the folder it may be a folder itself
   log.jsonl   a line for each step and each validation (run_log.h)
   lock        locked by the process that trains here */
#pragma once
#include "train/core/file.h"
#include <cstdint>
#include <filesystem>
#include <vector>

namespace moba {

/* Lets one process at a time write into a folder. The lock ends with the process, however that ends. Child
   processes inherit it. */
class FolderLock {
  public:
    /* False: another process holds it. Throws Error when DIR/lock cannot be opened. */
    bool take(const std::string& dir);

  private:
    std::shared_ptr<int> fd_;
};

/* The path of the checkpoint that `latest` names; without a usable `latest`, of the newest one. "" = the
   folder holds no checkpoint. */
std::string latest_checkpoint(const std::string& dir);

/* The checkpoint's name, "step-40", as `latest` has it; "" if that is no name of a checkpoint. */
std::string latest_name(const std::string& dir);

/* A complete checkpoint of the folder. Checkpoints are newer or older by the number of their save, `save` in
   state.json: copies of files have other times, and a run that goes on from an older checkpoint repeats
   steps. */
struct SavedCheckpoint {
    uint64_t save;  // 0: by an older version, which did not count
    std::filesystem::file_time_type time;
    int step;
    std::string name;
};
std::vector<SavedCheckpoint> saved_checkpoints(const std::string& dir);  // newest first

/* The number of the next save. */
uint64_t next_save(const std::string& dir, const std::vector<SavedCheckpoint>&);

/* Makes `latest` name this checkpoint. Atomic: a reader sees the old name or the new one. */
void set_latest(const std::string& dir, const std::string& name);

/* In a copy whose `latest` became a folder: makes it the checkpoint step-N, and `latest` a link to that. */
void restore_latest_link(const std::string& dir, int step);

/* Deletes these checkpoints, but not `latest` and the newest other one that still exists. */
void remove_old_checkpoints(const std::string& dir, const std::vector<SavedCheckpoint>&);
void remove_unfinished_checkpoints(const std::string& dir);

/* Deletes checkpoints and log. Other files stay. */
void clear_run(const std::string& dir);

}  // namespace moba
