"""Columns and files: what every CSV holds, how it is read and how it is written."""

import os
from pathlib import Path

from am.errors import InputError


def write_whole(path: Path, content: str | bytes, advice: str = "what was there is untouched") -> None:
    """Write a file so that a reader sees the old content or the new, never a part; an equal file is left as it is.

    Text is written as UTF-8. Raises InputError, which ends in `advice`, where the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.is_file() and path.read_bytes() == data:
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror}); {advice}.") from None
