#!/usr/bin/env bash
# ptxas.sh OBJECT COMPILER...: compiles, and writes the messages of ptxas to OBJECT.ptxas; shows other
# messages.
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
