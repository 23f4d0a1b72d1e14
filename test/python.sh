#!/usr/bin/env bash
# Runs a script of test/python/ with the Python in MOBA_PYTHON, or python3: test/python.sh SCRIPT WORD... Exit
# status 77: SKIPPED, a package that it needs is missing.
python=${MOBA_PYTHON:-python3}
if ! command -v "$python" > /dev/null; then
    echo "SKIPPED: no $python"
    exit 77
fi
HF_HUB_OFFLINE=1 exec "$python" "$(dirname "$0")/python/$1" "${@:2}"
