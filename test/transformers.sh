#!/usr/bin/env bash
# Runs transformers_test.py with the Python in MOBA_PYTHON, or python3. Exit status 77: SKIPPED, transformers
# is missing.
python=${MOBA_PYTHON:-python3}
if ! command -v "$python" > /dev/null; then
    echo "SKIPPED: no $python"
    exit 77
fi
HF_HUB_OFFLINE=1 exec "$python" "$(dirname "$0")/python/transformers_test.py" "$1"
