"""What the scripts of data/ say on stderr, with their name before it."""
import os
import sys


def named(message):
    return f"{os.path.basename(sys.argv[0])}: {message}"


def note(message):
    print(named(message), file=sys.stderr)


def fail(message):
    sys.exit(named(message))
