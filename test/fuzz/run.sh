#!/usr/bin/env bash
# Fuzzes every reader of external input: test/fuzz/run.sh FOLDER_OF_TARGETS [SECONDS_EACH, default 60]. JOBS
# targets run at the same time (default: the number of cores). Starts from test/fuzz/corpus/ and adds new
# inputs to FOLDER/corpus/. A crash fails the run and writes its input to FOLDER/.
set -u
cd "$(dirname "$0")/../.." || exit 2
folder=$1 seconds=${2:-60}

fuzz() {
    local name=$1
    mkdir -p "$folder/corpus/$name"
    "$folder/fuzz_$name" -max_total_time="$seconds" -max_len=8192 -timeout=120 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$folder/$name-" "$folder/corpus/$name" "test/fuzz/corpus/$name" > "$folder/$name.log" 2>&1
    local status=$? runs
    runs=$(grep -o 'number_of_executed_units: [0-9]*' "$folder/$name.log" | grep -o '[0-9]*$' | tail -n 1)
    if [ $status -ne 0 ]; then
        tail -n 40 "$folder/$name.log"
        echo "$name: FAILED after ${runs:-?} executions, $folder/$name.log"
        return 1
    fi
    echo "$name: $runs executions in $seconds s, no findings, $(find "$folder/corpus/$name" -type f | wc -l) inputs kept"
}
export -f fuzz
export folder seconds
printf '%s\n' safetensors index gguf model tokens tokenizer encode state options plan prompt | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'fuzz {}'
