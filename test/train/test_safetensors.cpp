/* Safetensors: files that were written are read back, and inconsistent files are refused with their name. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/files/safetensors.h"

namespace moba {

namespace {

void write_good(const std::string& path) {
    write_safetensors(path, {{"a", {2, 3}}, {"b", {4}}}, {{"format", "pt"}},
                      [](size_t i, std::vector<float>& v) {
                          v.resize(i == 0 ? 6 : 4);
                          for (size_t j = 0; j < v.size(); j++) { v[j] = (float)(10 * i + j); }
                      });
}

// Writes a file with this header and this many bytes of data.
void write_raw(const std::string& path, const std::string& header, size_t data_bytes,
               uint64_t header_bytes = 0) {
    if (!header_bytes) { header_bytes = header.size(); }
    write_text(path, std::string((const char*)&header_bytes, 8) + header + std::string(data_bytes, '\0'));
}

std::string refusal(const std::string& path) {
    try {
        Safetensors f(path);
    } catch (const Error& e) {
        const std::string text = e.what();
        EXPECT_EQ(text.find('\n'), std::string::npos) << "one line";
        EXPECT_EQ(text.rfind(path, 0), 0u) << "names the file: " << text;
        return text;
    }
    return "accepted";
}

TEST(Safetensors, WhatIsWrittenIsRead) {
    const TempDir dir;
    write_good(dir / "x");
    const Safetensors f(dir / "x");
    EXPECT_EQ(f.floats("a"), (std::vector<float>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(f.floats("b"), (std::vector<float>{10, 11, 12, 13}));
    EXPECT_EQ(f.at("a").shape, (std::vector<size_t>{2, 3}));
    EXPECT_EQ(f.setting("format"), "pt");
    EXPECT_THROW(f.floats("c"), Error);
    EXPECT_THROW(f.ints("a"), Error);
}

TEST(Safetensors, HalfPrecisionIsWidened) {
    const TempDir dir;
    const std::string header =
        R"({"h":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}})";
    const uint16_t data[] = {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x3F80, 0xC040};
    const uint64_t n = header.size();
    std::string file((const char*)&n, 8);
    file += header;
    file.append((const char*)data, sizeof data);
    write_text(dir / "x", file);
    const Safetensors f(dir / "x");
    EXPECT_EQ(f.floats("h"), (std::vector<float>{1, -2, std::ldexp(1.f, -24), 65504}));
    EXPECT_EQ(f.floats("b"), (std::vector<float>{1, -3}));
}

// A tensor of another type does not keep the others of the file from being read.
TEST(Safetensors, OtherTypesAreNamedWhenTheyAreRead) {
    const TempDir dir;
    write_raw(dir / "x",
              R"({"table":{"dtype":"C64","shape":[1],"data_offsets":[0,8]},)"
              R"("q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[8,12]},)"
              R"("w":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
              R"("fnuz":{"dtype":"F8_E4M3FNUZ","shape":[2],"data_offsets":[16,18]}})",
              18);
    ASSERT_EQ(refusal(dir / "x").substr(0, 8), "accepted");
    const Safetensors f(dir / "x");
    EXPECT_EQ(f.floats("w"), (std::vector<float>{0}));
    try {
        f.floats("q");
        ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("'q' has type F8_E4M3"), std::string::npos) << e.what();
    }
}

TEST(Safetensors, EveryTruncationIsRefused) {
    const TempDir dir;
    write_good(dir / "good");
    const std::string good = read_text(dir / "good");
    for (size_t n = 0; n < good.size(); n++) {
        write_text(dir / "x", good.substr(0, n));
        EXPECT_NE(refusal(dir / "x"), "accepted") << n << " bytes";
    }
    write_text(dir / "x", good + "more");
    EXPECT_NE(refusal(dir / "x"), "accepted");
}

TEST(Safetensors, InconsistentFilesAreRefused) {
    const TempDir dir;
    const char* headers[] = {
        "[]",
        "{",
        "null",
        R"({"a":1})",
        R"({"a":{"dtype":"F32","shape":[2]}})",
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",  // too few bytes
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",  // the end before the begin
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})",
        R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",  // beyond the file
        R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})",
        // the product overflows
        R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
        R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})",
        // overlap
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",  // gap
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",  // bytes left over
        R"({"__metadata__":{"x":1},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
    };
    for (const char* h : headers) {
        write_raw(dir / "x", h, 8);
        EXPECT_NE(refusal(dir / "x"), "accepted") << h;
    }
    write_raw(dir / "x", "{}", 0, ~0ull);
    EXPECT_NE(refusal(dir / "x"), "accepted");
    write_raw(dir / "x", std::string(100000, '['), 0);  // deep nesting
    EXPECT_NE(refusal(dir / "x"), "accepted");
    EXPECT_NE(refusal(dir.path()).find("folder"), std::string::npos);
    EXPECT_NE(refusal(dir / "missing").find("No such file"), std::string::npos);
}

TEST(Safetensors, FullDiskIsAnError) {
    EXPECT_THROW(write_good("/dev/full"), Error);
    EXPECT_THROW(write_good("/proc/nowhere/x"), Error);
}

}  // namespace

}  // namespace moba
