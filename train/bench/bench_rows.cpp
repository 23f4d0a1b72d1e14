#include "train/bench/bench_rows.h"
#include "moba/core/clock.h"
#include "train/core/device_choice.h"
#include "train/core/flops.h"
#include "train/core/statistics.h"
#include <algorithm>

namespace moba {

using nlohmann::json;

double median_ms(int repeats, const std::function<void()>& run) {
    run();
    std::vector<double> ms;
    for (int i = 0; i < repeats; i++) {
        const double begin = now_ms();
        run();
        ms.push_back(now_ms() - begin);
    }
    return median(ms);
}

// The median time of a call that may return before the device has finished.
static double call_ms(const DeviceOps* device_ops, const Ctx& ctx, int repeats,
                      const std::function<void(const Ctx&)>& run) {
    const auto timed = [&](int calls) {
        device_ops->synchronize(ctx);
        const double begin = now_ms();
        for (int i = 0; i < calls; i++) { run(ctx); }
        device_ops->synchronize(ctx);
        return (now_ms() - begin) / calls;
    };
    timed(1);
    std::vector<double> ms{timed(1)};
    const int calls = (int)std::clamp(std::ceil(1 / ms[0]), 1., 1000.);
    if (calls > 1) { ms.clear(); }
    while ((int)ms.size() < repeats) { ms.push_back(timed(calls)); }
    return median(ms);
}

static double measured_copy(const DeviceOps* device_ops, const Ctx& ctx) {
    double gbs = 0;
    for (size_t bytes = 64 << 20; bytes <= 256 << 20; bytes *= 4) {
        char *to = device_ops->allocate(bytes), *from = device_ops->allocate(bytes);
        const double ms =
            call_ms(device_ops, ctx, 3, [&](const Ctx& c) { device_ops->copy(c, to, from, bytes); });
        device_ops->release(to, bytes);
        device_ops->release(from, bytes);
        gbs = 2.0 * bytes / ms / 1e6;
        if (ms > 2) { break; }  // not a GPU: this size is large enough
    }
    return gbs;
}

void Operands::allocate() {
    const std::string needs =
        arena_.list() + ": its tensors need " + readable_bytes(arena_.bytes()) + " on " + device_ops_->name();
    const size_t available = device_ops_->available();
    if (arena_.bytes() > available) {
        throw Error(needs + ", but only " + readable_bytes(available) + " are free");
    }
    try {
        arena_.allocate();
    } catch (const Error& e) { throw Error(needs + ": " + e.what()); }
}

template <class E>
BenchRun start_rows(const BenchOptions& o, json& result) {
    const Device device = parse_device(o.device);
    BenchRun r{.o = o, .device = device, .device_ops = find_device(device), .copy_gbs = 0, .peak_gflops = 0};
    Ctx ctx;
    ctx.device = r.device;
    r.copy_gbs = measured_copy(r.device_ops, ctx);
    r.peak_gflops = peak_flops<E>(r.device) / 1e9;
    const bool published = published_peak(r.device_ops->name(), std::is_same_v<E, bf16>) > 0;
    std::printf("%s: copy %.0f GB/s, peak %.0f GFLOP/s %s\n", r.device_ops->name(), r.copy_gbs, r.peak_gflops,
                published ? "as published" : "measured");
    std::printf("%-26s %8s %10s %9s %8s %9s %8s %8s\n", "", "version", "ms", "GB/s", "of copy", "GFLOP/s",
                "of peak", "of best");
    result["copy_gbs"] = r.copy_gbs;
    result["peak_gflops"] = r.peak_gflops;
    result["peak"] = published ? "published" : "measured";
    result["rows"] = json::array();
    return r;
}

// -----------------------------------------------------------------------------------------------------------

namespace {

bool wanted(const BenchRun& r, const OpBench& b) {
    return r.o.op == "all" || b.name.find(r.o.op) != std::string::npos;
}

struct Version {
    int number;
    double ms;
    bool best = false;  // chosen by the operation, not asked for
};

// The version that the operation chooses by itself: the highest one that does not refuse these sizes.
int best_version(const BenchRun& r, const OpBench& b, Ctx ctx, int most) {
    if (r.device == Device::cpu) { return most; }
    for (ctx.kernel_version = most; ctx.kernel_version > 1; ctx.kernel_version--) {
        try {
            b.run(ctx);
            break;
        } catch (const Error&) {}  // of choose_version, before anything is launched
    }
    return ctx.kernel_version;
}

// Times the versions that --kernel-version asks for and that fit. On the GPU, all versions of linear if --op
// names it.
std::vector<Version> time_versions(const BenchRun& r, const OpBench& b, Ctx ctx) {
    const std::string& asked = r.o.kernel_version;
    const bool linear = asked == "0" && r.o.op != "all" && b.name.find("linear") != std::string::npos &&
                        r.device == Device::gpu;
    const bool all = asked == "all" || linear;
    const int most = r.device == Device::cpu ? (b.versions == Versions::both ? 2 : 1)
                                             : (b.versions == Versions::none ? 1 : max_kernel_version);
    if (asked == "0" && !all) {
        return {{best_version(r, b, ctx, most), call_ms(r.device_ops, ctx, r.o.repeats, b.run), true}};
    }
    const int first = all ? 1 : std::stoi(asked), last = all ? most : first;
    std::vector<Version> out;
    for (ctx.kernel_version = first; ctx.kernel_version <= std::min(last, most); ctx.kernel_version++) {
        try {
            out.push_back({ctx.kernel_version, call_ms(r.device_ops, ctx, r.o.repeats, b.run)});
        } catch (const Error&) {  // of choose_version: no further version fits
            if (ctx.kernel_version <= 1) { throw; }
            break;
        }
    }
    return out;
}

std::string number(const char* format, double x) {
    char text[32];
    std::snprintf(text, sizeof text, format, x);
    return text;
}

json print_row(const BenchRun& r, const OpBench& b, const Version& v, double best_ms) {
    const double gbs = b.bytes / v.ms / 1e6, gflops = b.flop / v.ms / 1e6, of_copy = gbs / r.copy_gbs,
                 of_peak = gflops / r.peak_gflops, of_best = best_ms / v.ms;
    const std::string version = v.number == 4 && b.name.find("linear") != std::string::npos
                                    ? "cuBLASLt"
                                    : (v.best ? "best:" : "") + std::to_string(v.number);
    json row{{"name", b.name},
             {"device", r.device_ops->name()},
             {"version", v.number},
             {"best", v.best},
             {"ms", v.ms},
             {"gbs", gbs},
             {"share_of_copy", of_copy},
             {"gflops", gflops},
             {"share_of_peak", of_peak}};
    if (best_ms > 0) { row["share_of_best"] = of_best; }
    std::printf("%-26s %8s %10.4f %9.1f %7.1f%% %9s %8s %8s\n", b.name.c_str(), version.c_str(), v.ms, gbs,
                100 * of_copy, b.flop > 0 ? number("%.1f", gflops).c_str() : "-",
                b.flop > 0 ? number("%.1f%%", 100 * of_peak).c_str() : "-",
                best_ms > 0 ? number("%.1f%%", 100 * of_best).c_str() : "-");
    return row;
}

}  // namespace

Times bench_rows(const BenchRun& r, const std::string& tensors, const MakeBenches& make, json& rows) {
    Operands operands(tensors, r.device, r.device_ops);
    const std::vector<OpBench> plan = make(operands);
    if (std::none_of(plan.begin(), plan.end(), [&](const OpBench& b) { return wanted(r, b); })) { return {}; }
    operands.allocate();
    Times out;
    for (const OpBench& b : make(operands)) {
        if (!wanted(r, b)) { continue; }
        const std::vector<Version> versions = time_versions(r, b, operands.ctx);
        if (versions.empty()) { continue; }
        const double best_ms = versions.back().ms;
        for (const Version& v : versions) {
            rows.push_back(print_row(r, b, v, versions.size() > 1 ? best_ms : 0));
        }
        std::fflush(stdout);
        out.push_back({b.name, best_ms});
    }
    return out;
}

template BenchRun start_rows<float>(const BenchOptions&, json&);
template BenchRun start_rows<bf16>(const BenchOptions&, json&);

}  // namespace moba
