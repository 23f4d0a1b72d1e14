/* Signals that ask a run to save and to end: Ctrl-C (SIGINT), SIGTERM, SIGHUP (the terminal was closed),
   SIGPIPE (the reader of the output has ended), SIGXCPU (the time limit of a batch system). */
#pragma once

namespace moba {

/* From now on these signals are only noted; Ctrl-C after one of them ends the process at once. SIGHUP stays
   ignored where it is, under nohup. */
void note_stop_signals();
bool stop_asked();

}  // namespace moba
