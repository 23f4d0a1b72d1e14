"""What the scripts that compare with other programs print: a line for each check, and how many failed."""
import sys

failures = 0


def check(what, ok, note=""):
    global failures
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what} {note}", flush=True)


def report():
    print("all the same" if not failures else f"{failures} checks FAILED")
    sys.exit(1 if failures else 0)
