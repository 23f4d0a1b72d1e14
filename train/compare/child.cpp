#include "train/compare/child.h"
#include "train/core/file.h"
#include "train/core/utf8.h"
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace moba {

static volatile std::sig_atomic_t stop_asked = 0;
static volatile pid_t child_now = 0;  // 0 while none runs

static void pass_on(int signal) {
    stop_asked = 1;
    if (child_now > 0) { kill(child_now, signal); }
}

bool child_stopped() { return stop_asked != 0; }

// Runs in the child after fork(): replaces the process by `moba <words>`.
[[noreturn]] static void become(const std::vector<std::string>& words, int output, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) { _exit(127); }  // the parent died between fork() and prctl()
    // In another process group the terminal's Ctrl-C does not reach the child; only the parent passes it on.
    setpgid(0, 0);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    std::vector<char*> argv{(char*)"moba"};
    for (const std::string& w : words) { argv.push_back((char*)w.c_str()); }
    argv.push_back(nullptr);
    execv("/proc/self/exe", argv.data());
    _exit(127);
}

ChildResult run_child(const std::vector<std::string>& words, const std::string& log,
                      const std::function<void(const std::string&)>& line) {
    struct sigaction action {};
    action.sa_handler = pass_on;
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    struct sigaction hangup;
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) { sigaction(SIGHUP, &action, nullptr); }  // ignored: nohup
    std::fflush(nullptr);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) { throw_errno("pipe"); }
    std::FILE* file = std::fopen(log.c_str(), "ae");
    if (!file) {
        close(ends[0]);
        close(ends[1]);
        throw_errno(log);
    }
    const pid_t parent = getpid(), child = fork();
    if (child == 0) { become(words, ends[1], parent); }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        std::fclose(file);
        throw_errno("fork");
    }
    child_now = child;
    if (stop_asked) { kill(child, SIGTERM); }  // the signal came before child_now was set

    ChildResult result{};
    std::FILE* in = fdopen(ends[0], "r");
    char* text = nullptr;
    size_t capacity = 0;
    for (ssize_t n; (n = getline(&text, &capacity, in)) > 0;) {
        std::fwrite(text, 1, (size_t)n, file);
        std::fflush(file);
        std::string one(text, (size_t)n);
        while (!one.empty() && (one.back() == '\n' || one.back() == '\r')) { one.pop_back(); }
        if (one.empty()) { continue; }
        result.last_line = valid_utf8(one);
        line(one);
    }
    std::free(text);
    std::fclose(in);
    std::fclose(file);
    int status = 0;
    rusage used{};
    while (wait4(child, &status, 0, &used) < 0 && errno == EINTR) {}
    child_now = 0;
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.peak_bytes = (size_t)used.ru_maxrss * 1024;
    return result;
}

}  // namespace moba
