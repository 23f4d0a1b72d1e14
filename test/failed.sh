#!/usr/bin/env bash
# What failed, once more and in short: test/failed.sh LOG (ctest's LastTest.log), for the end of a long output. Of
# GoogleTest each test case that failed, from its start to its end; of other tests the last lines.
awk '
function show(title, first, last, most,    i) {
    print title
    for (i = first; i <= last; i++) {
        if (last - i >= most && i - first >= most) { skipped++; continue }  # the first and the last lines
        if (skipped) { print "    ... " skipped " lines ..."; skipped = 0 }
        print "    " substr(text[i], 1, 300)
    }
}
function test_case(last) {
    if (++cases <= 5) { show("FAILED: " name ", " test, begin, last, 12) }
    begin = 0
}
/^[0-9]+\/[0-9]+ Testing: / { name = $3; n = 0; begin = 0; cases = 0; inside = 0; next }
/^Output:$/ && !inside { getline; inside = 1; next }
/^<end of output>$/ { inside = 0; next }
/^Test Failed\.$|^Test timed out/ && !inside {
    for (i = 1; i <= n; i++) {
        if (text[i] ~ /^\[ RUN      \] /) { begin = i; test = substr(text[i], 14) }
        if (text[i] ~ /^\[       OK \] |^\[  SKIPPED \] /) { begin = 0 }
        if (text[i] ~ /^\[  FAILED  \] / && begin) { test_case(i) }
    }
    if (begin) { test_case(n) }  # it crashed
    if (cases > 5) { print "FAILED: " name ": " cases - 5 " more" }
    if (!cases) { show("FAILED: " name, n > 20 ? n - 19 : 1, n, 20) }
    next
}
inside { text[++n] = $0 }
' "$1" | head -n 100
