"""From words to an exit status: a command that is done, or a sentence that says why it was not."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from am.errors import InputError
from am.methods import methods
from reproduce.cli.options import request
from reproduce.cli.stopping import SENTENCE
from reproduce.evidence import door


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say and return the exit status: 2 for what is refused, in a sentence on stderr.

    1 where it was done, and CSVs that it read have rows that do not count; each reason is a sentence on stderr.
    """
    door.told()  # what an earlier command in this process left
    status = _done(argv)
    for sentence in (said := door.told()):
        print(sentence, file=sys.stderr)
    return status or min(len(said), 1)


def _done(argv: Sequence[str] | None) -> int:
    try:
        command = request(sys.argv[1:] if argv is None else argv)
        _load_methods()
        status = command() or 0
        sys.stdout.flush()  # here, where a pipe that nobody reads from is no surprise
        return status
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the lines, `head` for one, has enough of them. What Python has yet to write goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except OSError as error:  # a folder that is a file, a disk that is full: wherever it shows, it is one sentence
        if error.filename is None:
            raise
        print(f"{error.filename} cannot be read or written ({error.strerror}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{SENTENCE}", file=sys.stderr)
        return 130


def _load_methods() -> None:
    """Import every method's file, so that a slip in one that is being written is a sentence that names it."""
    try:
        methods()
    except InputError:
        raise
    except Exception as error:  # whatever the file raises
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/am/methods/" in frame.filename]
        path, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else frames[-1][:2]
        where = f"am/methods/{Path(path).name}, line {line}"
        raise InputError(f"{where}: {type(error).__name__}, {getattr(error, 'msg', None) or error}.") from error
