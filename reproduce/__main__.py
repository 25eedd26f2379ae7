"""The command line: `python -m reproduce COMMAND --help`. The Makefile's targets are these commands."""

import os
import sys

from reproduce.cli.stopping import end_in_a_sentence

if __name__ == "__main__":
    end_in_a_sentence()  # before the imports that take seconds

from reproduce.cli.main import main

if __name__ == "__main__":
    status = main()
    if status:
        sys.exit(status)  # the long way out: a command that was refused may have processes to wait for
    # Skips the interpreter's teardown of the tensor library, which can take seconds.
    os._exit(status)
