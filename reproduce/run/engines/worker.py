"""A worker of the local engine. It loads nothing heavy before it is tied to its parent's life.

It talks to its parent through one pipe, so that no semaphore or file is left behind by whoever is killed.
"""

import ctypes
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from reproduce.run.engines import Work

STOPS = (signal.SIGINT, signal.SIGTERM)


def _end_with(parent: int) -> None:
    """Let this process end with its parent: by the kernel of Linux, elsewhere by a look every second."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def serve(work: Work, parent: int, pipe: Connection) -> None:
    """Answer every (number, stack, wait, latest) with shares of it that are done, and ("left", number, runs left).

    What goes wrong is answered as ("error", number, exception). Ends with its parent.
    """
    _end_with(parent)
    from reproduce.run.engines.work import trainer

    def tell(kind: str, i: int, what: Any) -> None:
        pipe.send((kind, i, what))

    train: Callable | None = None
    while True:
        i, stack, wait, latest = pipe.recv()
        try:
            train = train or trainer(work)
            tell("left", i, train(stack, wait, functools.partial(tell, "share", i), latest))
        except Exception as error:
            tell("error", i, error)
