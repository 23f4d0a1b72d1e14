#include "train/run/stop_signal.h"
#include <csignal>
#include <initializer_list>

namespace moba {

static volatile std::sig_atomic_t asked = 0;

static void note(int) {
    asked = 1;
    std::signal(SIGINT, SIG_DFL);
}

void note_stop_signals() {
    for (int signal : {SIGINT, SIGTERM, SIGPIPE, SIGXCPU}) { std::signal(signal, note); }
    if (std::signal(SIGHUP, note) == SIG_IGN) { std::signal(SIGHUP, SIG_IGN); }
}

bool stop_asked() { return asked != 0; }

}  // namespace moba
