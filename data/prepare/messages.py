"""What prepare_text.py says on stderr."""
import sys


def note(message):
    print("prepare_text.py: " + message, file=sys.stderr)


def fail(message):
    sys.exit("prepare_text.py: " + message)
