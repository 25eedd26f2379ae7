"""A worker of the local engine. It loads nothing heavy before it is tied to its parent's life.

It talks to its parent through one pipe, so that no semaphore or file is left behind by whoever is killed.
"""

import ctypes
import functools
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from reproduce.run.engines import Work

STOPS = (signal.SIGINT, signal.SIGTERM)


def serve(work: Work, parent: int, pipe: Connection) -> None:
    """Answer every (number, stack, wait, latest) with shares of it that are done, and ("left", number, runs left).

    What goes wrong is answered as ("error", number, exception). Ends with its parent.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before the call
        os._exit(1)
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
