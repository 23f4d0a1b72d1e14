/* The GPU's memory: a model that does not fit is refused with its memory lists, and copies may be requested
   faster than they are made. */
#include "test/support/model_case.h"
#include <numeric>

namespace moba {

namespace {

using namespace model_case;

// The source may be overwritten as soon as to_device() returns, also if it is copied through several pieces
// of pinned memory.
TEST(KernelsMemory, SourceMayBeOverwrittenAfterTheCall) {
    const DeviceOps& memory = *find_device(Device::gpu);
    const Ctx ctx{.device = Device::gpu, .stream = memory.stream()};
    const size_t n = 3 << 20;  // ints: 12 MB
    int* on_gpu = (int*)memory.allocate(n * sizeof(int));
    std::vector<int> values(n), back(n);
    std::iota(values.begin(), values.end(), 0);
    const size_t sizes[] = {1, 100, 70000, 1 << 20, 3, 1500000};
    size_t begin = 0;
    for (const size_t count : sizes) {
        std::vector<int> part(values.begin() + begin, values.begin() + begin + count);
        memory.to_device(ctx, on_gpu + begin, part.data(), count * sizeof(int));
        std::fill(part.begin(), part.end(), -1);
        begin += count;
    }
    ASSERT_LE(begin, n);
    memory.to_host(ctx, back.data(), on_gpu, begin * sizeof(int));
    back.resize(begin);
    values.resize(begin);
    EXPECT_TRUE(back == values);
    memory.release((char*)on_gpu, n * sizeof(int));
}

class SimulatedMemory {
  public:
    explicit SimulatedMemory(size_t bytes) { setenv("SIMT_MEMORY", std::to_string(bytes).c_str(), 1); }
    ~SimulatedMemory() { unsetenv("SIMT_MEMORY"); }
};

// A plan that fits only without the reserve for kernels and libraries is refused, and the message says what
// would fit.
TEST(KernelsMemory, APlanLeavesAReserve) {
    if (std::string(find_device(Device::gpu)->name()) != "simulated GPU") {
        GTEST_SKIP() << "a GPU's memory cannot be set";
    }
    const ModelSizes sizes{.max_tokens = 64, .max_seqs = 1, .max_position = 64, .training = true};
    const size_t bytes = Model<float>(small("moba"), sizes, Device::gpu).bytes();
    const auto error = [&](size_t memory) -> std::string {
        const SimulatedMemory is(memory);
        Model<float> model(small("moba"), sizes, Device::gpu);
        try {
            model.allocate();
            return "";
        } catch (const Error& e) { return e.what(); }
    };
    EXPECT_EQ(error(bytes + bytes / 8), "");
    const std::string refused = error(bytes + bytes / 32);
    for (const char* part :
         {"out of memory", "reserved", "weights", "workspace", "tokens at a time would fit"}) {
        EXPECT_NE(refused.find(part), std::string::npos) << part << " in: " << refused;
    }
}

}  // namespace

}  // namespace moba
