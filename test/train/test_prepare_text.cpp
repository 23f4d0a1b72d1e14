/* data/prepare_text.py as far as it needs only Python: bytes, encodings, .jsonl files, shards, and what it
   refuses. With a tokenizer: test/python/prepare_text_test.py. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/data/token_files.h"

namespace moba {

namespace {

class PrepareText : public testing::Test {
  protected:
    void SetUp() override {
        if (shell("command -v python3").status != 0) { GTEST_SKIP() << "SKIPPED: no python3"; }
    }
    Outcome prepare(const std::string& words) const {
        return shell("cd " + dir.path() + "; python3 -B " MOBA_SOURCE_DIR "/data/prepare_text.py " + words);
    }
    // What the tokens of one file of this content say, with _ for the end token.
    std::string text(const std::string& name, const std::string& content,
                     const std::string& words = "") const {
        write_text(dir / name, content);
        const Outcome r = prepare("'" + name + "' --val-share 0 --out out " + words);
        EXPECT_EQ(r.status, 0) << r.out;
        std::string out;
        if (r.status == 0) {
            for (const int id : tokens("out/train_000000.bin")) { out += id == 256 ? '_' : (char)id; }
        }
        std::filesystem::remove_all(dir / "out");
        return out;
    }
    std::vector<int> tokens(const std::string& name) const {
        const TokenFiles f({dir / name});
        std::vector<int> out(f.size());
        f.read(0, out.size(), out.data());
        return out;
    }
    // It must fail with one line that contains `says`, and create no files.
    void refuses(const std::string& words, const std::string& says, int status = 1) const {
        const Outcome r = prepare(words + " --out new");
        EXPECT_EQ(r.status, status) << words << "\n" << r.out;
        EXPECT_NE(r.out.find(says), std::string::npos) << words << " should say '" << says << "':\n" << r.out;
        if (status == 1) { EXPECT_EQ(lines(r.out), 1) << words << "\n" << r.out; }
        for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
            EXPECT_EQ(entry.path().filename().string().find("new"), std::string::npos) << words;
        }
    }
    void refuses_file(const std::string& name, const std::string& content, const std::string& says) const {
        write_text(dir / name, content);
        refuses(name, name + says);
    }
    const TempDir dir;
};

TEST_F(PrepareText, BytesAndShards) {
    write_text(dir / "a.txt", "one|two");
    write_text(dir / "b.jsonl", "{\"text\": \"x\"}\n{\"text\": \"yz\"}\n");
    const Outcome r =
        prepare("a.txt b.jsonl --split-on '|' --shard-tokens 6 --val-share 0.2 --out 'the out'");
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(tokens("the out/train_000000.bin"), (std::vector<int>{256, 'o', 'n', 'e', 256, 't'}));
    EXPECT_EQ(tokens("the out/train_000001.bin"), (std::vector<int>{'w', 'o', 256, 'x', 256, 'y'}));
    EXPECT_EQ(tokens("the out/val_000000.bin"), (std::vector<int>{'z', 256}));
    EXPECT_NE(r.out.find("--data 'the out'/train_*.bin --val-data 'the out'/val_*.bin"), std::string::npos);
    const std::string about = read_text(dir / "the out/tokens.json");
    EXPECT_NE(about.find("\"documents\": 4"), std::string::npos) << about;
    // of "one|two", by sha256sum
    EXPECT_NE(about.find("8df582537a4d42ed5a338c03e57dd1a659ff128f37e817acc9ce14b81a73f308"),
              std::string::npos)
        << about;
    EXPECT_EQ(TokenFiles({dir / "the out/train_000000.bin"}).vocabulary().tokenizer, "bytes");
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(dir / "the out")) {
        files += !entry.path().empty();
    }
    EXPECT_EQ(files, 4) << "three shards and tokens.json";
    EXPECT_EQ(prepare("--encode 'ab'").out, "97,98\n");
    EXPECT_EQ(prepare("--encode \xff").out, "255\n") << "any bytes";
}

TEST_F(PrepareText, EncodingsAreDetectedOrRefused) {
    // bytes stay bytes
    EXPECT_EQ(text("a", "caf\xe9\r\n"), "_caf\xe9\r\n_");
    EXPECT_EQ(text("a", std::string("a\0b", 3)), std::string("_a\0b_", 5));
    EXPECT_EQ(text("a", "caf\xe9", "--encoding latin-1"), "_caf\xc3\xa9_");
    EXPECT_EQ(text("a", "\xef\xbb\xbf"
                        "caf\xc3\xa9"),
              "_caf\xc3\xa9_")
        << "a byte order mark is no text";
    EXPECT_EQ(text("a", std::string("\xff\xfe\xe9\0\n\0", 6)), "_\xc3\xa9\n_");
    EXPECT_EQ(text("a", std::string("\xfe\xff\0\xe9", 4)), "_\xc3\xa9_");
    EXPECT_EQ(text("a.jsonl", std::string("\xff\xfe{\0\"\0t\0e\0x\0t\0\"\0:\0\"\0\xe9\0\"\0}\0", 26)),
              "_\xc3\xa9_");
    write_text(dir / "a", "ab\ncaf\xe9\n");
    refuses("a --encoding utf-8", "a:2: byte 6 of the file (0xe9) is not utf-8");
    write_text(dir / "a", std::string(300000, 'x') + "\n" + std::string(300000, 'y') + "\xe2\x82");
    refuses("a --encoding utf-8", "a:2: byte 600001 of the file (0xe2) is not utf-8");
    EXPECT_EQ(text("a", "caf\xe9!", "--encoding utf-8 --replace-invalid"), "_caf\xef\xbf\xbd!_");
    EXPECT_NE(prepare("a --out 1 --encoding utf-8 --replace-invalid").out.find("stands for 1 invalid byte"),
              std::string::npos);
    // a letter whose bytes lie in two reads
    const std::string far(131071, 'x');
    EXPECT_TRUE(text("a", far + "\xc3\xa9", "--encoding utf-8") == "_" + far + "\xc3\xa9_");
    write_text(dir / "a", std::string("a\0b\0\n\0", 6));
    refuses("a --encoding utf-8", "a: is full of zero bytes");
    refuses("a --encoding utf-16", "a: UTF-16 stream");
    refuses("a --encoding latin-9000", "--encoding latin-9000: unknown encoding", 2);
    refuses("a --encoding rot13", "--encoding rot13: ", 2);
}

TEST_F(PrepareText, JsonLines) {
    EXPECT_EQ(text("a.jsonl",
                   "\n{\"text\": \"one\"}\r\n  \n{\"id\": 7, \"text\": \"t\\u0000\\ud83d\\ude00\"}\n\n\n"),
              std::string("_one_t\0\xf0\x9f\x98\x80_", 12));
    EXPECT_EQ(text("a.ndjson", "{\"text\": \"\"}\n{\"text\": \"b\"}"), "_b_")
        << "an empty document has no tokens";
    EXPECT_EQ(text("a.JSON", "{\"text\": \"b\"}"), "_b_");
    EXPECT_EQ(text("a", "{\"content\": \"b\"}", "--jsonl --text-key content"), "_b_");
    const std::string large(1000000, 'x');
    EXPECT_TRUE(text("a.jsonl", "{\"text\": \"" + large + "\"}\n{\"text\": \"b\"}") == "_" + large + "_b_");
    const std::string half = "{\"text\": \"ab\"}\n{\"text\": \"b \\udc00\\ud83d c\"}\n";
    refuses_file("a.jsonl", half, ":2: \\udc00 is half of a surrogate pair");
    EXPECT_EQ(text("a.jsonl", half, "--replace-invalid"), "_ab_b \xef\xbf\xbd\xef\xbf\xbd c_");
    EXPECT_NE(prepare("a.jsonl --out once --replace-invalid").out.find("a.jsonl: U+FFFD stands for 2 "),
              std::string::npos);
    refuses_file("a.jsonl", "{\"text\": \"caf\xe9\"}", ":1: byte 13 of the file (0xe9) is not utf-8");
    refuses_file("a.jsonl", "{\"text\": \"a\"}\n[{\"text\": \"a\"}]", ":2: is a JSON list");
    refuses_file("a.json", "[\n  {\"text\": \"a\"}\n]\n", ":1: is a JSON list");
    refuses_file("a.json", "\n{\n  \"text\": \"a\"\n}\n", ":2: is not JSON: Expecting property name");
    refuses_file("a.jsonl", "{\"text\": \"\\x\"}", ":1: is not JSON: Invalid \\escape");
    refuses_file("a.jsonl", "{\"txt\": 1, \"id\": 2}", ":1: has no key \"text\"; its keys: \"txt\", \"id\"");
    refuses_file("a.jsonl", "{\"text\": null}", ":1: \"text\" is not a string: null");
    refuses_file("a.jsonl", "\"text\"", ":1: is not a JSON object: \"text\"");
    std::string deep;
    for (int i = 0; i < 100000; i++) { deep += "{\"a\":"; }
    refuses_file("a.jsonl", deep, ":1: is not JSON");
}

TEST_F(PrepareText, Separators) {
    EXPECT_EQ(text("a", "|one||two|", "--split-on '|'"), "_one_two_");
    EXPECT_EQ(text("a", "one<end>t<en<end>", "--split-on '<end>'"), "_one_t<en_");
    // across two reads
    const std::string far(131069, 'x');
    EXPECT_TRUE(text("a", far + "<end>two", "--split-on '<end>'") == "_" + far + "_two_");
    EXPECT_EQ(text("a", "one\xe9two", "--split-on \xe9"), "_one_two_") << "any bytes";
    EXPECT_EQ(text("a", "one\xe9two", "--encoding latin-1 --split-on \xc3\xa9"), "_one_two_");
    write_text(dir / "a", "one\n\ntwo\n\n");
    write_text(dir / "b.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
    const Outcome never = prepare("a b.jsonl --split-on '\\n\\n' --out never");
    EXPECT_NE(never.out.find("not found in any plain file (in bash, $'\\n' is the end of a line)"),
              std::string::npos)
        << never.out;
    const Outcome twice = prepare("a --split-on \"$(printf '\\n\\nt')\" --out twice");
    EXPECT_EQ(lines(twice.out), 2) << "only what was made and the next command: " << twice.out;
}

TEST_F(PrepareText, InputsAndOutputsThatCannotBe) {
    write_text(dir / "a", "text");
    write_text(dir / "empty", "");
    std::filesystem::create_directory(dir / "folder");
    refuses("none.txt", "none.txt: No such file");
    refuses("folder", "folder: Is a directory");
    refuses("empty", "no text in these files");
    refuses("a --val-share nan", "--val-share", 2);
    refuses("a --shard-tokens 2147483648", "--shard-tokens", 2);
    refuses("a --split-on ''", "--split-on", 2);
    refuses("a --end-token x", "--end-token", 2);
    refuses("a --encode b", "--encode", 2);
    refuses("a --tokenizer none.json", "prepare_text.py: ");
    EXPECT_NE(prepare("a empty --out out").out.find("empty: no text in it\n"), std::string::npos);
    for (const auto& [words, says] :
         {std::pair<std::string, std::string>{"a --out out", "out: is there already"},
          {"a --out /proc/new", "/proc/new"}}) {
        const Outcome bad = prepare(words);
        EXPECT_EQ(bad.status, 1) << bad.out;
        EXPECT_NE(bad.out.find(says), std::string::npos) << bad.out;
        EXPECT_EQ(lines(bad.out), 1) << bad.out;
    }
    const std::pair<const char*, const char*> kinds[] = {
        {"\x1f\x8b\x08", "gzip"},     {"BZh9", "bzip2"},           {"\xfd\x37zXZ", "xz"},
        {"\x28\xb5\x2f\xfd", "zstd"}, {"\x04\x22\x4d\x18", "lz4"}, {"PK\3\4", "zip"},
        {"%PDF-1.7", "PDF"},          {"PAR1", "Parquet"},         {"\x88\xd8\x34\x01", "ids"}};
    for (const auto& [start, name] : kinds) {
        write_text(dir / "b.jsonl.gz", std::string(start) + std::string(20, '\0'));
        refuses("b.jsonl.gz", name);
    }
}

TEST_F(PrepareText, StandardInput) {
    write_text(dir / "one", "one\n");
    ASSERT_EQ(prepare("- --val-share 0 --out out < one").status, 0);
    EXPECT_EQ(tokens("out/train_000000.bin"), (std::vector<int>{256, 'o', 'n', 'e', '\n', 256}));
    // of "one\n", by sha256sum: a pipe cannot be read twice
    EXPECT_NE(read_text(dir / "out/tokens.json")
                  .find("2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806"),
              std::string::npos);
}

TEST_F(PrepareText, NothingHalfWrittenStays) {
    write_text(dir / "a", std::string(1000000, 'x'));
    const std::string run = "python3 -B " MOBA_SOURCE_DIR "/data/prepare_text.py ";
    const Outcome large = shell("cd " + dir.path() + "; ulimit -f 100; " + run + "a --out new");
    EXPECT_EQ(large.status, 1);
    EXPECT_EQ(large.out, "prepare_text.py: new: File too large\n");
    // The signal comes when it has written a part and opened the pipe, into which nobody writes.
    for (const auto& [signal, status] :
         {std::pair{"INT", 130}, std::pair{"TERM", 143}, std::pair{"HUP", 129}}) {
        const Outcome r = shell(
            "cd " + dir.path() + "; rm -f pipe; mkfifo pipe; (exec 3> pipe; p=$(cat pid); kill -" + signal +
            " $p; while kill -0 $p; do sleep 0.01; done) > /dev/null 2>&1 & " +
            "sh -c 'echo $$ > pid; exec " + run + "a pipe --out new'; s=$?; exec 3<> pipe; wait; exit $s");
        EXPECT_EQ(r.status, status) << signal << ": " << r.out;
        EXPECT_EQ(r.out, "") << signal;
    }
    for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
        EXPECT_EQ(entry.path().filename().string().find("new"), std::string::npos) << entry.path();
    }
}

}  // namespace

}  // namespace moba
