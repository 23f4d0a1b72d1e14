#!/usr/bin/env bash
# ptxas.sh OBJECT COMPILER...: compiles, and keeps what ptxas says of each kernel in OBJECT.ptxas; the rest is shown.
object=$1
shift
"$@" 2> "$object.ptxas"
status=$?
if [ $status -ne 0 ]; then
    cat "$object.ptxas"
else
    grep -vE '^ptxas info|bytes stack frame' "$object.ptxas"
fi >&2
exit $status
