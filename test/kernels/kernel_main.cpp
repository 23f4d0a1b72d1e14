/* The tests of kernels need a GPU, real or simulated. Without one: exit status 77, SKIPPED. */
#include "moba/op_table.h"
#include <gtest/gtest.h>

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (!moba::gpu_problem().empty()) {
        std::printf("SKIPPED: no GPU: %s\n", moba::gpu_problem().c_str());
        return 77;
    }
    return RUN_ALL_TESTS();
}
