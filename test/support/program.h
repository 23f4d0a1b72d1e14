/* Runs the program as a user would, and checks what it prints. */
#pragma once
#include "test/support/check.h"
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <sys/wait.h>

namespace moba {

struct Outcome {
    int status;       // exit status; 128 + signal when killed
    std::string out;  // stdout and stderr
};

// The command starts with the signals of a terminal, also where the tests run under nohup or in the
// background: what is ignored there would stay ignored in it.
inline Outcome shell(const std::string& command) {
    Outcome r{0, ""};
    std::map<int, sighandler_t> before;
    for (int s : {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGXCPU}) { before[s] = std::signal(s, SIG_DFL); }
    FILE* p = popen(("{ " + command + "; } 2>&1").c_str(), "r");
    for (const auto& [s, handler] : before) { std::signal(s, handler); }
    std::array<char, 4096> part;
    size_t n;
    while ((n = std::fread(part.data(), 1, part.size(), p)) > 0) { r.out.append(part.data(), n); }
    const int s = pclose(p);
    r.status = WIFEXITED(s) ? WEXITSTATUS(s) : 128 + WTERMSIG(s);
    return r;
}
inline Outcome moba(const std::string& arguments) { return shell(MOBA_PROGRAM " " + arguments); }

// Runs the program and returns only what it prints on stderr.
inline Outcome moba_errors(const std::string& arguments) {
    return shell("{ " MOBA_PROGRAM " " + arguments + "; } 2>&1 >/dev/null");
}

// A temporary folder for one test; it is removed at the end.
class TempDir {
  public:
    TempDir() {
        std::string t = (std::filesystem::temp_directory_path() / "moba-test-XXXXXX").string();
        path_ = mkdtemp(t.data());
    }
    ~TempDir() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

inline std::string read_text(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream s;
    s << in.rdbuf();
    return s.str();
}
inline void write_text(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

inline int lines(const std::string& text) { return (int)std::count(text.begin(), text.end(), '\n'); }

// The program must refuse the arguments with this exit status and one line that contains `says`.
inline void expect_refused(const std::string& arguments, int status, const std::string& says) {
    const Outcome r = moba_errors(arguments);
    EXPECT_EQ(r.status, status) << arguments << "\n" << r.out;
    EXPECT_NE(r.out.find(says), std::string::npos) << arguments << " should say '" << says << "':\n" << r.out;
    EXPECT_EQ(lines(r.out), 1) << arguments << "\n" << r.out;
}

// Options of a training of about one second, used by most tests of the program.
inline const char* tiny_run = "train --hidden-size 32 --num-layers 2 --seq-len 48 --batch-size 4 --num-keys "
                              "8 --num-values 8 --num-noise 8 "
                              "--block-size 16 --top-k 2 --log-every 1000 --eval-every 0 --warmup 5 ";

}  // namespace moba
