#!/usr/bin/env bash
# Opens the pages that the program writes in a headless Chromium, and checks that there are no errors on the
# console, that nothing is loaded from the network, and that every picture is there. Usage: pages.sh PROGRAM [PROGRAM_OF_THE_LAB].
# Exit status 77: SKIPPED, no Chromium.
set -euo pipefail
moba=$1 lab=${2:-}
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ]; then
    echo "SKIPPED: no chromium"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# look PAGE: writes the DOM, after all scripts have run, to PAGE.dom, and the console messages to PAGE.console
look() {
    # a new profile; host names cannot be resolved, so nothing is loaded from the network
    timeout 1200 "$chromium" --headless --no-sandbox --disable-gpu --user-data-dir="$dir/profile" --host-resolver-rules="MAP * ~NOTFOUND" \
        --window-size=390,800 --enable-logging=stderr --v=0 --dump-dom "file://$dir/$1" > "$1.dom" 2> "$1.log" || return 1
    grep -o 'CONSOLE.*' "$1.log" > "$1.console" || true
}
# expect PAGE PATTERN N: the pattern must occur at least N times in the DOM
expect() {
    local n
    n=$({ grep -o -E -e "$2" "$1.dom" || true; } | wc -l)
    [ "$n" -ge "$3" ] || { echo "$1: '$2' stands $n times, not $3"; exit 1; }
}
open_page() {
    look "$1" || { echo "$1: chromium failed"; tail -5 "$1.log"; exit 1; }
    if [ -s "$1.console" ]; then echo "$1: the console says"; cat "$1.console"; exit 1; fi
}

# Tests the check itself: the error of this page must be detected.
echo '<html><script>nothing.here()</script></html>' > bad.html
look bad.html || { echo "chromium does not start"; tail -5 bad.html.log; exit 1; }
grep -q "nothing is not defined" bad.html.console || { echo "an error on the console was not seen"; cat bad.html.log; exit 1; }

cat > plan.json <<'TEXT'
{"title": "Pages", "seeds": 2,
 "base": {"task": "needle", "seq-len": 48, "batch-size": 2, "steps": 6, "hidden-size": 16, "block-size": 16, "top-k": 2, "eval-every": 3,
          "eval-samples": 4},
 "tasks": [{"name": "needle"}, {"name": "text", "task": "", "data": "plan.json", "val-share": 0.4}],
 "variants": [{"name": "full", "attention": "full"}, {"name": "moba"}],
 "eval": {"lengths": [1, 2], "depths": 2, "samples": 3}, "bench-lengths": [64, 128]}
TEXT
"$moba" compare --config plan.json --out out > compare.txt
cp out/report.html report.html
open_page report.html
expect report.html '<svg' 8
expect report.html '<table' 3
expect report.html 'moba train --attention=full' 4

cp out/charts/needle/accuracy-against-length.svg chart.svg
open_page chart.svg
expect chart.svg 'class="marker"' 4

"$moba" inspect --model out/runs/needle.moba.s1 --out inspect.html > inspect.txt
open_page inspect.html
expect inspect.html '<svg' 4
expect inspect.html 'The way of the answer' 1
expect inspect.html 'layer 0, head 0: query' 1  # the script of the page has shown the cell of the question

if [ -n "$lab" ]; then
    "$lab" lab linear_forward --kernel-version all --seq-len 32 --hidden-size 32 --html lab.html > lab.txt
    open_page lab.html
    expect lab.html '<svg' 1  # the most expensive request is drawn
    expect lab.html 'tr data-p=' 10
    expect lab.html 'product_kernel3' 2
fi

"$moba" plot out/runs/needle.moba.s1 out/runs/needle.full.s1 --out plot.html > plot.txt
open_page plot.html
expect plot.html '<svg' 7
expect plot.html '<span>full' 1 # an option that differs
echo "pages: the report, a chart, inspect, lab and plot open without a word on the console"
