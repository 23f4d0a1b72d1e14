# Functions of test/gpu.sh: time limits, parts, rows, tables. Use $out, $work, $simulate, $total, $only.
# shellcheck shell=bash disable=SC2034,SC2154 # names that the other files use, or set
failed=0
tier=0 deadline=0
table=/dev/null log=/dev/null
most_of_a_part=400000 # bytes that a part may add to the log

# run_tier N SECONDS UNIT...: runs the units until the time of the tier or of the whole run is over
run_tier() {
    local begin=$SECONDS limit=$(($2 < total - SECONDS ? $2 : total - SECONDS)) unit
    tier=$1 deadline=$((SECONDS + limit))
    table=$out/tier$1.table.txt log=$out/tier$1.log.txt
    shift 2
    watch_clocks "$work/clocks.csv"
    for unit in "$@"; do
        if [ "$only" = '' ] || [ "$only" = "$unit" ]; then unit_"$unit"; fi
    done
    if [ -s "$table" ]; then
        clocks_row "$work/clocks.csv"
        row "tier $tier" "$((SECONDS - begin)) s" "limit $limit s" -
    fi
}
# watch_clocks FILE: from now until the next call, records clocks, power and temperature once a second,
# because a time depends on the clock of the card
watch_clocks() {
    if [ "$watcher" != '' ]; then kill "$watcher"; fi
    watcher=''
    if simulated || ! command -v nvidia-smi > /dev/null; then return; fi
    nvidia-smi --query-gpu=utilization.gpu,clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_event_reasons.active \
        --format=csv,noheader,nounits -l 1 > "$1" 2> /dev/null &
    watcher=$!
}
# clocks_row FILE: a row about the seconds in which the card was busy
clocks_row() {
    local said
    said=$(awk -F', *' '$1 >= 50 { n++; if (n == 1 || $2 < low) low = $2; if ($2 > high) high = $2; if ($4 > power) power = $4; if ($5 > warm) warm = $5; why[$6] }
        END { if (n) { printf "%d to %d MHz|%.0f W, %.0f C", low, high, power, warm; for (w in why) printf " %s", w } }' "$1" 2> /dev/null)
    if [ "$said" != '' ]; then row "SM clock while busy" "${said%|*}" "${said#*|}" -; fi
}
watcher=''
left() { echo $((deadline - SECONDS)); }
now() { echo "${EPOCHREALTIME/[.,]/}"; } # microseconds

# row NAME VALUE WANTED ok|FAIL|SKIPPED
row() {
    if simulated; then set -- "$1" "$2" "${3/limit*/no limit}" "$4"; fi
    printf '%-46s %30s  %-28s %s\n' "$@" | tee -a "$table"
    if [ "$4" = FAIL ]; then failed=1; fi
}
# note TEXT...: prints lines below a row, such as the message of a failure
note() { printf '%s\n' "$@" | grep . | cut -c 1-160 | sed 's/^/    | /' | tee -a "$table"; }

# part NAME LIMIT COMMAND...: runs the command for at most LIMIT seconds. $said: file with its output, which
# also goes to the log; $status: its exit status, or "skipped" if there was no time for it or the tier's time
# ended it; $took: its seconds
part() {
    local name=$1 limit=$2 begin rest
    shift 2
    rest=$(left)
    said=$work/${name//\//_}.txt took=0
    : > "$said"
    if [ "$rest" -lt 5 ]; then
        status=skipped
        return
    fi
    begin=$(now)
    echo "=== $name: $*" >> "$log"
    limited $((limit < rest ? limit : rest)) "$@" 2>&1 < /dev/null | tee "$said" | first_of_it >> "$log"
    status=${PIPESTATUS[0]}
    took=$(awk -v us=$(($(now) - begin)) 'BEGIN { printf "%.1f", us / 1e6 }')
    if [ "$(wc -c < "$said")" -gt $most_of_a_part ]; then
        printf '\n[...]\n'
        tail -c 20000 "$said"
    fi >> "$log"
    printf '=== exit status %s after %s s\n\n' "$status" "$took" >> "$log"
    case $status in 124 | 137) if [ "$limit" -ge "$rest" ]; then status=skipped; fi ;; esac
}
limited() { # SECONDS COMMAND...
    if simulated; then
        "${@:2}"
    else
        timeout -k 5 "$@"
    fi
}
first_of_it() {
    head -c $most_of_a_part
    cat > /dev/null
}
# verdict NAME: if the part did not succeed, prints its row and returns 1; else returns 0 without a row
verdict() {
    case $status in
        0) return 0 ;;
        skipped) row "$1" - "no time left" SKIPPED ;;
        77) row "$1" - "$(head -n 1 "$said" | cut -c 1-28)" SKIPPED ;;
        124 | 137) row "$1" "stopped after $took s" "exit status 0" FAIL ;;
        *)
            if grep -qE ' are free$|not enough GPU memory for ' "$said"; then
                row "$1" - "does not fit the memory" SKIPPED
                note "$(tail -n 1 "$said")"
            else
                row "$1" "exit status $status" "exit status 0" FAIL
                note "$(tail -n 3 "$said")"
            fi
            ;;
    esac
    return 1
}
# check NAME LIMIT COMMAND...: a part that must end with exit status 0
check() {
    part "$@"
    if verdict "$1"; then row "$1" "$took s" "exit status 0" ok; fi
}
# figure NAME VALUE [WANTED CONDITION]: CONDITION is in awk, of v, the first word of VALUE. An empty value is
# a failure; after a part that was skipped the row is SKIPPED.
figure() {
    local result=ok
    if [ "${status-}" = skipped ]; then
        result=SKIPPED
    elif [ -z "$2" ] || ! awk -v v="${2%% *}" "BEGIN { exit !(${4:-1}) }"; then
        result=FAIL
    fi
    row "$1" "${2:--}" "${3:--}" $result
}

# Everything that is not ok, and the times.
summary() {
    local t
    printf '\n%-46s %30s  %-28s\n' "not ok, and the times:" value wanted
    for t in "$out"/tier*.table.txt; do
        if [ -e "$t" ]; then grep -E ' (FAIL|SKIPPED|-)$' "$t"; fi
    done
    printf '\n%s s; tables and logs: %s\n' $SECONDS "$out"
}
