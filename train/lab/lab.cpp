#include "train/lab/lab.h"
#include "train/bench/bench_ops.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/display/numbers.h"
#include "train/lab/lab_report.h"
#include <algorithm>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

RecordPlan plan_of(const LabOptions& o, const LabCard& card) {
    RecordPlan plan;
    plan.blocks = o.blocks;
    plan.sms = card.sms, plan.l2_bytes = card.l2_bytes, plan.l1_bytes = card.l1_bytes;
    plan.reserved_shared = card.reserved_shared;
    plan.resources = [&card](const KernelCounts& k) { return kernel_resources(card, k); };
    return plan;
}

/* Arithmetic of an operation is known only as a whole. Its kernels share it in proportion to their accesses;
   an operation that uses tensor cores has none in fp32. */
void add_kernels(LabReport& report, std::vector<KernelCounts> counts, int version, double flop) {
    double cost = 0, tensor = 0;
    const auto cost_of = [&](const KernelCounts& k) {
        const KernelSums s = sum_kernel(report.card, k, 0);
        return (double)(s.global.lines + s.shared.wavefronts) * k.scale();
    };
    for (const KernelCounts& k : counts) { cost += cost_of(k), tensor += k.tensor_flop; }
    for (KernelCounts& k : counts) {
        const double mine = tensor > 0 || cost == 0 ? 0 : flop * cost_of(k) / cost;
        report.kernels.push_back({k, sum_kernel(report.card, k, mine), kernel_name(k.kernel), version});
    }
}

// Runs one operation in the versions that are asked for.
void run_op(const LabOptions& o, const OpBench& b, Ctx ctx, LabReport& report) {
    const std::string& asked = o.bench.kernel_version;
    const int most = b.versions == Versions::none ? 1 : max_kernel_version;
    const bool all = asked == "all", best = !all && std::stoi(asked) == 0;
    const auto recorded = [&](int version) {
        ctx.kernel_version = version;
        recorder->start(b.name, plan_of(o, report.card));
        try {
            b.run(ctx);
        } catch (const Error&) {  // of choose_version: this version does not fit
            recorder->stop();
            return false;
        }
        add_kernels(report, recorder->stop(), version, b.flop);
        return true;
    };
    if (best) {
        for (int version = most; version >= 1 && !recorded(version); version--) {}
    } else if (all) {
        for (int version = 1; version <= most && recorded(version); version++) {}
    } else if (std::stoi(asked) <= most) {
        recorded(std::stoi(asked));
    }
}

template <class E>
void run_ops(const LabOptions& o, LabReport& report) {
    const DeviceOps* device = find_device(Device::gpu);
    const auto wanted = [&](const OpBench& b) {
        return o.bench.op == "all" || b.name.find(o.bench.op) != std::string::npos;
    };
    const OpSetList sets = op_sets<E>(o.bench);
    for (const auto& [name, make] : sets) {
        Operands operands(name, Device::gpu, device);
        const std::vector<OpBench> planned = make(operands);
        if (std::none_of(planned.begin(), planned.end(), wanted)) { continue; }
        operands.allocate();
        for (const OpBench& b : make(operands)) {
            if (wanted(b)) { run_op(o, b, operands.ctx, report); }
        }
    }
    if (report.kernels.empty()) {
        throw Error("--op " + o.bench.op + ", --kernel-version " + o.bench.kernel_version +
                    ": there is no such operation or version; `moba bench op` lists all operations");
    }
}

}  // namespace

int run_lab(const LabOptions& o) {
    if (!recorder) {
        throw Error(
            "this program cannot count memory accesses; `make lab` builds the one that can, build/lab/moba");
    }
    check_writable(o.html);
    check_writable(o.json);
    source_chains({1});  // fails here if there is no addr2line
    // The simulated GPU has what this card has.
    setenv("SIMT_CAPABILITY", lab_card(o.card).capability, 1);
    setenv("SIMT_SHARED_MEMORY", std::to_string(lab_card(o.card).block_shared).c_str(), 1);
    const BenchOptions& b = o.bench;
    check_heads(b);
    LabReport report{
        .card = lab_card(o.card), .sizes = b.precision + ": " + op_sizes(b), .kernels = {}, .chains = {}};
    with_precision(b.precision, [&](auto e) { run_ops<decltype(e)>(o, report); });
    std::set<uint32_t> addresses;
    for (const LabKernel& k : report.kernels) {
        for (const auto& [pc, c] : k.counts.at) { addresses.insert(pc - 1); }
    }
    if (!o.table || !o.html.empty() || !o.json.empty()) { report.chains = source_chains(addresses); }
    std::printf("%s; %s\n", report.sizes.c_str(),
                o.table ? "counted" : (std::string("times for ") + report.card.name).c_str());
    if (o.table) { std::printf("%s", lab_table_header().c_str()); }
    for (const LabKernel& k : report.kernels) {
        std::printf("%s", (o.table ? lab_table_row(k) : lab_text(report, k, o.lines)).c_str());
    }
    if (!o.html.empty()) { write_file(o.html, lab_page(report)); }
    if (!o.json.empty()) { write_file(o.json, lab_json(report).dump(2) + "\n"); }
    return 0;
}

}  // namespace moba
