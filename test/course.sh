#!/usr/bin/env bash
# course.sh LAB JUDGE [COMPILER PROCESSOR]: runs every command of docs/course.md, the lines that begin with "    $ ", and checks that
# each line shown below it is in its output, whatever the white space. LAB: build/lab/moba; JUDGE: build/lab/judge. The numbers are
# those of g++ 12 on x86-64 (test/lab/traffic.txt); exit status 77, SKIPPED, with another compiler.
set -uo pipefail
lab=$1 judge=$2
cd "$(dirname "$0")/.." || exit 2
if [ "${3%%.*} $4" != "$(head -n 1 test/lab/traffic.txt)" ]; then
    echo "SKIPPED: the numbers are those of $(head -n 1 test/lab/traffic.txt)"
    exit 77
fi
said=$(mktemp)
trap 'rm -f "$said"' EXIT
commands=0 lines=0 wrong=0 last=
squeeze() { tr -s ' ' | sed 's/^ //; s/ $//'; }
while IFS= read -r line; do
    case $line in
    '    $ '*)
        last=${line#'    $ '} commands=$((commands + 1))
        case $last in
        'build/lab/moba '*) read -ra words <<< "${last#build/lab/moba }" && "$lab" "${words[@]}" ;;
        'make judge OP='*) bash test/judge/judge.sh "$judge" "${last#make judge OP=}" ;;
        *) echo "no such command in a course: $last"; false ;;
        esac > "$said" 2>&1 || { echo "fails: $last"; cat "$said"; wrong=1; }
        ;;
    '    '*)
        [ -n "$last" ] || continue
        lines=$((lines + 1))
        squeeze < "$said" | grep -qF -- "$(squeeze <<< "$line")" || { echo "$last"; echo "does not print: $line"; wrong=1; }
        ;;
    *) last= ;;
    esac
done < docs/course.md
if [ $commands -lt 12 ] || [ $lines -lt 18 ]; then echo "only $commands commands and $lines lines found"; exit 1; fi
[ $wrong = 0 ] && echo "course: $commands commands print the $lines lines that docs/course.md shows"
exit $wrong
