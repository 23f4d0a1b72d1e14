/* Shared by the tests of kernels: an operation is written once as a function of a run and run three times: on
   the CPU in double (the reference), on the CPU in the element type (which shows the cost of rounding), and
   on the GPU in every version. The error of a kernel may be at most twice the error of the CPU, plus a small
   floor. The GPU may be the simulated one: test/simt/. */
#pragma once
#include "moba/core/arena.h"
#include "test/support/packed_batch.h"
#include <functional>
#include <sstream>

namespace moba {

namespace kernel_case {

// Of a tensor: {M, H, D}, or one number.
struct Shape {
    std::vector<size_t> sizes;
    template <class... N>
    Shape(N... n) : sizes{(size_t)n...} {}
    bool operator==(const Shape&) const = default;
    size_t count() const {
        size_t n = 1;
        for (size_t s : sizes) { n *= s; }
        return n;
    }
    std::string text() const {
        std::string out;
        for (size_t s : sizes) { out += (out.empty() ? "(" : ", ") + std::to_string(s); }
        return out + ")";
    }
    // "[3, 0, 17]"
    std::string place(size_t element) const {
        std::string out = "]";
        for (size_t i = sizes.size(); i-- > 0; element /= sizes[i]) {
            out = (i ? ", " : "[") + std::to_string(element % sizes[i]) + out;
        }
        return out;
    }
};

struct Output {
    std::string name;
    Shape shape;
    std::vector<double> values;
    bool operator==(const Output&) const = default;
};
using Outputs = std::vector<Output>;

/* The tensors of one run: elements E, inputs rounded to In first. Every tensor is followed by guard bytes;
   outputs are filled with NaN first. */
template <bool on_gpu, class E_, class In>
class DeviceRun {
  public:
    using E = E_;
    using A = acc_t<E>;
    static constexpr bool gpu = on_gpu, low = std::is_same_v<In, bf16>;
    Ctx ctx;

    explicit DeviceRun(int version) {
        ctx.device = gpu ? Device::gpu : Device::cpu;
        ctx.kernel_version = version;
    }
    DeviceRun(const DeviceRun&) = delete;
    ~DeviceRun() {
        for (const Tensor& t : tensors_) { device.release(t.data, t.bytes + guard); }
    }

    template <class X>
    X* constant(const std::vector<X>& values) {
        return (X*)place(values.data(), values.size() * sizeof(X));
    }
    E* input(size_t n, uint64_t stream, double scale = 1) {
        return constant(as<E>(draw<In>(n, stream, scale)));
    }
    A* wide_input(size_t n, uint64_t stream) { return constant(as<A>(draw<float>(n, stream))); }
    template <class X>
    X* output(const std::string& name, const Shape& shape) {
        return named<X>(name, shape, std::vector<X>(shape.count(), X(NAN)));
    }
    int* int_output(const std::string& name, const Shape& shape) {
        return named<int>(name, shape, std::vector<int>(shape.count(), -7));
    }
    // for tensors that are both read and written
    template <class X>
    X* inout(const std::string& name, const std::vector<X>& values) {
        return named<X>(name, values.size(), values);
    }
    template <class X>
    X* inout(const std::string& name, const Shape& shape, const std::vector<X>& values) {
        return named<X>(name, shape, values);
    }
    void workspace(size_t bytes) {
        const std::vector<char> nan(bytes, (char)0xFF);
        ctx.workspace = place(nan.data(), bytes);
        ctx.workspace_bytes = bytes;
    }

    Outputs results() {
        Outputs out;
        for (const auto& read : readers_) { out.push_back(read()); }
        for (const Tensor& t : tensors_) {
            std::vector<char> tail(guard);
            to_host(tail.data(), t.data + t.bytes, guard);
            EXPECT_TRUE(tail == std::vector<char>(guard, (char)0xC5))
                << "written past the end of a tensor of " << t.bytes << " bytes";
        }
        return out;
    }

  private:
    struct Tensor {
        char* data;
        size_t bytes;
    };
    static constexpr size_t guard = 256;
    static constexpr const DeviceOps& device = gpu ? gpu_device : cpu_device;

    char* place(const void* data, size_t bytes) {
        char* p = device.allocate(bytes + guard);
        std::vector<char> all(bytes + guard, (char)0xC5);
        if (bytes) { std::memcpy(all.data(), data, bytes); }
        device.to_device(ctx, p, all.data(), all.size());
        tensors_.push_back({p, bytes});
        return p;
    }
    void to_host(void* to, const void* from, size_t bytes) { device.to_host(ctx, to, from, bytes); }
    template <class X>
    X* named(const std::string& name, const Shape& shape, const std::vector<X>& values) {
        X* p = constant(values);
        readers_.push_back([this, name, shape, p, n = values.size()] {
            std::vector<X> host(n);
            to_host(host.data(), p, n * sizeof(X));
            return Output{name, shape, std::vector<double>(host.begin(), host.end())};
        });
        return p;
    }
    std::vector<Tensor> tensors_;
    std::vector<std::function<Output()>> readers_;
};

/* Calls the operation on the device of the run: CALL(rope_forward, E, args...) */
#define CALL(op, type, ...)                                                                                  \
    do {                                                                                                     \
        if constexpr (std::decay_t<decltype(on)>::gpu) {                                                     \
            op##_gpu<type>(on.ctx, __VA_ARGS__);                                                             \
        } else {                                                                                             \
            op##_cpu<type>(on.ctx, __VA_ARGS__);                                                             \
        }                                                                                                    \
    } while (0)

/* Allocates the workspace that the operation needs on that device: WORKSPACE(norm, E, shape) */
#define WORKSPACE(op, type, ...)                                                                             \
    do {                                                                                                     \
        if constexpr (std::decay_t<decltype(on)>::gpu) {                                                     \
            on.workspace(op##_workspace_bytes_gpu<type>(__VA_ARGS__));                                       \
        } else {                                                                                             \
            on.workspace(op##_workspace_bytes_cpu<type>(__VA_ARGS__));                                       \
        }                                                                                                    \
    } while (0)

// The element types of a run `on`: element<decltype(on)>
template <class R>
using element = typename std::decay_t<R>::E;
template <class R>
using wide = typename std::decay_t<R>::A;

// Where a kernel is wrong: "shape (70, 2, 64), 3 of 8960 elements, the first at [1, 0, 5]: got 0.5, wanted
// 0.25". allowed: relative to the largest value.
inline std::string wrong_elements(const Output& got, const Output& want, double allowed) {
    const double most = allowed * std::max(max_abs(want.values.data(), want.values.size()), 1e-30);
    size_t wrong = 0, first = 0;
    for (size_t i = want.values.size(); i-- > 0;) {
        if (!(std::fabs(got.values[i] - want.values[i]) <= most)) { wrong++, first = i; }
    }
    std::ostringstream out;
    out << "shape " << want.shape.text() << ", " << wrong << " of " << want.values.size()
        << " elements, the first at " << want.shape.place(first) << ": got " << got.values[first]
        << ", wanted " << want.values[first];
    return out.str();
}

template <bool gpu, class E, class In, class F>
Outputs run_in(int version, F& run) {
    DeviceRun<gpu, E, In> on(version);
    run(on);
    return on.results();
}

template <class In, class F>
void expect_kernels_of(const std::string& op, int versions, F& run, int first = 1,
                       double floor = std::is_same_v<In, bf16> ? 1e-3 : 1e-6) {
    const Outputs want = run_in<false, double, In>(0, run), cpu = run_in<false, In, In>(0, run);
    for (int version = first; version <= versions; version++) {
        const Outputs got = run_in<true, In, In>(version, run);
        ASSERT_EQ(got.size(), want.size());
        for (size_t i = 0; i < want.size(); i++) {
            const double error = relative_error(got[i].values, want[i].values),
                         allowed = 2 * relative_error(cpu[i].values, want[i].values) + floor;
            std::string name =
                op + " " + want[i].name + " " + type_name<In>() + " version " + std::to_string(version);
            if (!(error <= allowed)) { name += ": " + wrong_elements(got[i], want[i], allowed) + "; error"; }
            expect_error(name, error, allowed);
        }
    }
}

/* run(on) makes inputs and outputs and calls the operation; it does the same for every `on`. */
template <class F>
void expect_kernels(const std::string& op, int versions, F run, int first = 1) {
    expect_kernels_of<float>(op, versions, run, first);
    expect_kernels_of<bf16>(op, versions, run, first);
}

}  // namespace kernel_case

}  // namespace moba
