"""One writer at a time: STORE/lock, held through flock, which the kernel lets go of when its process ends."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from edgepatch.errors import EdgepatchError
from edgepatch.runtime.store import disk

TIMEOUT = 30.0  # seconds
POLL = 0.02  # seconds; a blocking flock could only be left by a signal


@contextlib.contextmanager
def held(folder: Path, timeout: float) -> Iterator[None]:
    """Keep other writers out, threads of this process too.

    The file names its holder's process id, for whoever waits in vain.

    Args:
        timeout: how long to wait for another writer, in seconds.

    Raises:
        EdgepatchError: another one still holds it, the store may not be written to, or there is no flock here.
    """
    try:
        import fcntl
    except ImportError as error:
        raise EdgepatchError("a store needs the file locks of POSIX to be changed", file=folder) from error
    path = folder / disk.LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise disk.failed(error, path) from error
    owner = os.getpid()
    try:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not time.monotonic() < end:  # nor is it before nan
                    raise EdgepatchError(
                        f"is still being changed by somebody else after {timeout:g} seconds of waiting",
                        file=folder,
                        field="lock",
                        got=_holder(handle),
                        expected="nobody",
                        mend="Wait for it to end, or end it; a process that is gone holds no lock.",
                    ) from error
                time.sleep(POLL)
            except OSError as error:
                raise EdgepatchError(f"cannot be locked: {error.strerror}", file=path) from error
        with contextlib.suppress(OSError):  # a courtesy, which a full disk may refuse
            os.pwrite(handle, b"%-20d\n" % os.getpid(), 0)
        yield
    finally:
        if os.getpid() == owner:  # a child that was forked meanwhile has the handle too, and closing ours leaves it
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _holder(handle: int) -> str:
    """Who holds the lock, as far as its file tells."""
    with contextlib.suppress(OSError, ValueError):
        holder = int(os.pread(handle, 32, 0))
        return f"process {holder}" + (", this one" if holder == os.getpid() else "")
    return "an unknown process"
