/* What may be written to an output: lines that are drawn again, colours, or plain text only. */
#pragma once

namespace moba {

/* Whether lines can be overwritten there: a terminal, but not TERM=dumb. */
bool is_terminal(int fd);
/* Whether colours are wanted there: a terminal, unless NO_COLOR has a value (https://no-color.org). */
bool has_colours(int fd);
int terminal_columns();  // of stdout; 80 where unknown
int terminal_lines();    // 24 where unknown

}  // namespace moba
