#include "moba/core/arena.h"
#include "moba/op_table.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

const DeviceOps* cpu = find_device(Device::cpu);

// Takes the tensors of a small arena; done twice, before and after allocate().
struct Small {
    char* odd;
    double* numbers;
    int* none;
    float* last;
    explicit Small(Arena& a)
        : odd(a.take<char>("odd", 3)), numbers(a.take<double>("numbers", 100)), none(a.take<int>("none", 0)),
          last(a.take<float>("last", 48)) {}
};

TEST(Arena, PlannedThenAllocated) {
    Arena arena("list", cpu);
    const Small plan(arena);
    EXPECT_EQ(plan.odd, nullptr);
    EXPECT_EQ(plan.last, nullptr);
    // each size plus 64 guard bytes, rounded up: 3 -> 256, 800 -> 1024, 0 -> 256, 192 -> 256
    EXPECT_EQ(arena.bytes(), 256u + 1024 + 256 + 256);
    EXPECT_EQ(arena.base(), nullptr);
    arena.allocate();
    const Small real(arena);
    EXPECT_EQ(arena.bytes(), 256u + 1024 + 256 + 256);
    EXPECT_EQ((char*)real.odd, arena.base());
    EXPECT_EQ((char*)real.numbers, arena.base() + 256);
    EXPECT_EQ((char*)real.last, arena.base() + 256 + 1024 + 256);
    for (const void* p : {(void*)real.odd, (void*)real.numbers, (void*)real.none, (void*)real.last}) {
        EXPECT_EQ((uintptr_t)p % align_bytes, 0u);
    }
    for (int i = 0; i < 100; i++) { EXPECT_EQ(real.numbers[i], 0); }
    EXPECT_EQ(arena.tensors().size(), 4u);
    EXPECT_EQ(arena.tensors()[1].name, "numbers");
    EXPECT_EQ(arena.tensors()[1].bytes, 800u);
    EXPECT_EQ(arena.list(), "list");
}

// A changed byte right after any tensor is detected and the tensor is named; writing every byte of every
// tensor is no error.
TEST(Arena, GuardsNameTheTensor) {
    Arena arena("list", cpu);
    Small plan(arena);
    arena.allocate();
    const Small x(arena);
    std::string broken;
    for (const Arena::Tensor& t : arena.tensors()) { std::memset(arena.base() + t.offset, 0xC4, t.bytes); }
    EXPECT_TRUE(arena.guards_intact(&broken));
    for (const Arena::Tensor& t : arena.tensors()) {
        for (size_t i : {(size_t)0, guard_bytes - 1}) {
            char& c = arena.base()[t.offset + t.bytes + i];
            const char before = c;
            c = 0;
            EXPECT_FALSE(arena.guards_intact(&broken));
            EXPECT_EQ(broken, t.name);
            c = before;
            EXPECT_TRUE(arena.guards_intact(&broken));
        }
    }
}

TEST(Arena, EmptyAndMoved) {
    std::string broken;
    Arena empty("nothing", cpu);
    empty.allocate();
    EXPECT_EQ(empty.base(), nullptr);
    EXPECT_TRUE(empty.guards_intact(&broken));
    Arena from("list", cpu);
    Small plan(from);
    from.allocate();
    char* const base = from.base();
    Arena to(std::move(from));
    const Small x(to);
    EXPECT_EQ(to.base(), base);
    EXPECT_EQ(from.base(), nullptr);
    EXPECT_TRUE(to.guards_intact(&broken));
}

TEST(ArenaDeathTest, SecondListMustEqualTheFirst) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    Arena arena("list", cpu);
    arena.take<float>("a", 4);
    arena.take<float>("b", 4);
    arena.allocate();
    EXPECT_EXIT(arena.take<float>("b", 4), testing::ExitedWithCode(1), "'b' of 16 bytes");
    EXPECT_EXIT(arena.take<float>("a", 5), testing::ExitedWithCode(1), "'a' of 20 bytes");
    EXPECT_EXIT(arena.allocate(), testing::ExitedWithCode(1), "'list' to be allocated once");
}

TEST(Memory, TooMuchIsAnError) {
    try {
        cpu->release(cpu->allocate((size_t)1 << 60), (size_t)1 << 60);
        FAIL() << "an exabyte was allocated";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("1048576.0 TiB"), std::string::npos) << e.what();
    }
}

TEST(Memory, ZeroAndCopy) {
    const size_t n = (3 << 20) + 5;  // several pieces of 1 MB, and an odd remainder
    std::vector<char> x(n + 1, 1), y(n + 1, 2);
    cpu->zero({}, x.data(), n);
    EXPECT_EQ(std::count(x.begin(), x.end(), 0), (long)n);
    EXPECT_EQ(x[n], 1);
    cpu->to_device({}, y.data(), x.data(), n);
    EXPECT_EQ(std::count(y.begin(), y.end(), 0), (long)n);
    EXPECT_EQ(y[n], 2);
    for (size_t i = 0; i < n; i++) { x[i] = (char)(i % 251); }
    cpu->copy({}, y.data(), x.data(), n);
    EXPECT_EQ(std::memcmp(y.data(), x.data(), n), 0);
    EXPECT_EQ(y[n], 2);
    cpu->to_host({}, x.data(), y.data() + n, 1);
    EXPECT_EQ(x[0], 2);
}

TEST(Memory, ReadableBytes) {
    EXPECT_EQ(readable_bytes(0), "0 B");
    EXPECT_EQ(readable_bytes(1023), "1023 B");
    EXPECT_EQ(readable_bytes(1024), "1.0 KiB");
    EXPECT_EQ(readable_bytes(12900000), "12.3 MiB");
    EXPECT_EQ(readable_bytes((size_t)141 << 30), "141.0 GiB");
}

// The scratch memory of the last thread may end at the end of the workspace, but not after it.
TEST(Memory, ThreadScratch) {
    Workspace work(100);
    EXPECT_EQ((char*)thread_scratch<char>(work.ctx, 25, 3), work.ctx.workspace + 75);
}
TEST(MemoryDeathTest, ThreadScratch) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    Workspace work(100);
    EXPECT_EXIT(thread_scratch<char>(work.ctx, 26, 3), testing::ExitedWithCode(1), "workspace has 100");
}

}  // namespace

}  // namespace moba
