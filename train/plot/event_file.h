/* TensorBoard event files: scalars by name and step.

   Source   a record is its length (8 bytes, little-endian), the masked CRC-32C of the length, the data, and
            the masked CRC-32C of the data. The data is one protobuf message Event {1 wall_time double, 2 step
            int64, 3 file_version string, 5 Summary {1 Value {1 tag string, 2 simple_value float}}} */
#pragma once
#include "train/core/file.h"

namespace moba {

class EventFile {
  public:
    /* Throws Error, as do the others. */
    EventFile(const std::string& path, double seconds);
    /* seconds: since 1970 */
    void scalar(const std::string& name, int64_t step, double seconds, double value);
    void finish() { file_.finish(); }

  private:
    void record(const std::string& event);
    FileWriter file_;
};

}  // namespace moba
