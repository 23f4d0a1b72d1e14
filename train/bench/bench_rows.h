/* Shared by bench op and bench attention: tensors on the device, the time of a call, and the row that is
   printed.

   Timing   a call that does not count, then the median of --repeats timings; each waits for the device before
            and after. Calls shorter than a millisecond are repeated within one timing, without waiting in
            between, so a GPU's launches overlap as in a training step.
   Columns  of copy   bandwidth as a share of that of copying 64 or 256 MB on this device, where bytes read
                      and written both count; tensors that fit into a cache may exceed 100%
            of peak   flop/s as a share of the peak (flops.h)
            of best   time of the last version, which version 0 chooses, divided by this version's time */
#pragma once
#include "moba/core/arena.h"
#include "moba/core/parallel.h"
#include "moba/core/philox.h"
#include "moba/op_table.h"
#include "train/bench/bench_options.h"
#include <functional>
#include <nlohmann/json.hpp>

namespace moba {

/* Where an operation has several versions: numbered kernels on the GPU; on the CPU 1 = plain and 2 = fast. */
enum class Versions { none, gpu, both };

struct OpBench {
    std::string name;
    Versions versions;
    double bytes, flop;  // bytes that must be read or written; flop 0 = bound by memory
    std::function<void(const Ctx&)> run;
};

/* The tensors of some operations, on the device. As with an arena, they are taken twice: the first time only
   their sizes are added up, and all pointers are null. */
class Operands {
  public:
    Ctx ctx;

    Operands(const std::string& name, Device device, const DeviceOps* device_ops)
        : device_ops_(device_ops), arena_(name, device_ops) {
        ctx.device = device;
    }
    template <class X>
    X* zeros(size_t n) {
        return arena_.take<X>("", n);
    }
    template <class X>
    X* copy(const std::vector<X>& values) {
        X* p = zeros<X>(values.size());
        if (real()) { device_ops_->to_device(ctx, p, values.data(), values.size() * sizeof(X)); }
        return p;
    }
    // Normal random numbers, the same on every machine. They repeat after a prime number of elements, so no
    // two rows of a tensor are equal.
    template <class X>
    X* random(size_t n) {
        X* p = zeros<X>(n);
        stream_++;
        if (!real()) { return p; }
        std::vector<X> some(std::min<size_t>(n, 1048583));
        parallel_ranges(some.size(), 4096, [&](size_t b, size_t e) {
            Rng rng(stream_, Purpose::synthetic, b);
            for (size_t i = b; i < e; i++) { some[i] = X((float)rng.normal()); }
        });
        for (size_t i = 0; i < n; i += some.size()) {
            device_ops_->to_device(ctx, p + i, some.data(), std::min(some.size(), n - i) * sizeof(X));
        }
        device_ops_->synchronize(ctx);
        return p;
    }
    void workspace(size_t bytes) {
        ctx.workspace = zeros<char>(bytes);
        ctx.workspace_bytes = bytes;
    }
    bool real() const { return arena_.base(); }
    void allocate();

  private:
    const DeviceOps* device_ops_;
    Arena arena_;
    uint64_t stream_ = 0;
};

struct BenchRun {
    BenchOptions o;
    Device device;
    const DeviceOps* device_ops;
    double copy_gbs, peak_gflops;
};

/* Measures the copy and the peak that shares refer to; prints the column titles. */
template <class E>
BenchRun start_rows(const BenchOptions&, nlohmann::json& result);

using MakeBenches = std::function<std::vector<OpBench>(Operands&)>;
using Times = std::vector<std::pair<std::string, double>>;  // operations and their ms

/* Times the operations that --op names, in the versions that --kernel-version names; prints them, and adds
   them to rows. Returns the time of each operation's last version. `make` is called twice: for the sizes,
   then with real tensors. */
Times bench_rows(const BenchRun&, const std::string& tensors, const MakeBenches& make, nlohmann::json& rows);

double median_ms(int repeats, const std::function<void()>& run);  // of a call that waits for the device

}  // namespace moba
