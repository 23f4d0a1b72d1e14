/* NCCL on a real GPU, with one rank: the library loads, and its sums leave a rank's own data as they are.
   Send and Recv are only found in the library, since a rank sends itself nothing. Several ranks need several
   GPUs: test/gpu.sh trains on two where there are two. */
#include "moba/core/comm.h"
#include "moba/op_table.h"
#include "test/support/kernel_case.h"
#include <numeric>

namespace moba {

namespace {

TEST(KernelsRanks, NcclWithOneRank) {
    Comm alone;
    const DeviceOps& device = *find_device(Device::gpu);
    std::unique_ptr<DeviceComm> nccl;
    try {
        nccl = device.comm(alone);
    } catch (const Error& e) { GTEST_SKIP() << "SKIPPED: " << e.what(); }
    if (!nccl) { GTEST_SKIP() << "SKIPPED: the simulator has no NCCL"; }
    const Ctx ctx{.device = Device::gpu, .stream = device.stream()};
    const size_t n = 1000;
    std::vector<float> x(n), back(n);
    std::iota(x.begin(), x.end(), 0.5f);
    float* on_gpu = (float*)device.allocate(n * sizeof(float));
    device.to_device(ctx, on_gpu, x.data(), n * sizeof(float));
    nccl->reduce_scatter(ctx, on_gpu, n);
    nccl->all_gather(ctx, on_gpu, n * sizeof(float));
    nccl->exchange(ctx, {{on_gpu, n * sizeof(float)}}, {{on_gpu, n * sizeof(float)}});
    EXPECT_TRUE(nccl->finish(ctx, 30));
    device.to_host(ctx, back.data(), on_gpu, n * sizeof(float));
    EXPECT_EQ(back, x);
    device.release((char*)on_gpu, n * sizeof(float));
}

}  // namespace

}  // namespace moba
