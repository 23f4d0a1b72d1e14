#!/usr/bin/env bash
# transformers_test.py with the Python that MOBA_PYTHON names, else python3. Exit status 77: SKIPPED, no transformers there.
python=${MOBA_PYTHON:-python3}
if ! command -v "$python" > /dev/null; then
    echo "SKIPPED: no $python"
    exit 77
fi
HF_HUB_OFFLINE=1 exec "$python" "$(dirname "$0")/transformers_test.py" "$1"
