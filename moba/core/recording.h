/* Records launches once and replays them while their shape stays the same: one launch instead of hundreds. On
   the CPU, which cannot record, and while a profile measures times, everything is launched normally. The bits
   are the same.

   Use      Recording passes(device->graphs);
            each time: passes.run(ctx, shape, [&] { the launches });
   Order    a run is recorded if the run before it had the same shape: its kernels are loaded by then. */
#pragma once
#include "moba/core/device_ops.h"
#include <functional>
#include <vector>

namespace moba {

class Recording {
  public:
    explicit Recording(const GraphOps*);  // DeviceOps::graphs; nullptr: nothing is recorded
    ~Recording();
    Recording(Recording&& other) noexcept;
    Recording& operator=(Recording&& other) noexcept;

    // shape: every value that the launches depend on, except values in device memory
    void run(const Ctx&, std::vector<int> shape, const std::function<void()>& launch);
    bool replayed() const { return replayed_; }  // did the last run() use the recording?

  private:
    void release();

    const GraphOps* graphs_;
    CUgraphExec_st* graph_ = nullptr;
    std::vector<int> recorded_shape_, last_shape_;
    bool replayed_ = false;
};

}  // namespace moba
