"""By which process a configuration file is in use, for `ndpresponder reload`.

The daemon locks a file of its own in /run, named after the configuration file, and the kernel tells who has the lock
(F_GETLK of fcntl(2)). A lock ends with its process, however that ends; a number that is written down can be that of
another process by then, to which the signal would be the end.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from struct import Struct

DIRECTORY = Path((os.environ.get("RUNTIME_DIRECTORY") or "/run/ndpresponder").partition(":")[0])
"""The runtime directory: systemd names the one of the unit, or several (systemd.exec(5))."""

_FLOCK = Struct("@hhqqi0q")  # struct flock of fcntl(2): type, whence, start, length, process


def absolute(configuration: str) -> str:
    """Return the path of a configuration file as everybody here names it: absolute, without a `..`."""
    # Not by way of its links: those of a volume of Kubernetes lead elsewhere after each change.
    return os.path.abspath(configuration)  # noqa: PTH100 - Path.absolute() leaves a .. where it is


def _path(configuration: str, directory: Path) -> Path:
    return directory / absolute(configuration).replace("%", "%25").replace("/", "%2F")


class Claim:
    """That this process uses a configuration file, until it ends or close() is called. Raises OSError."""

    def __init__(self, configuration: str, directory: Path = DIRECTORY) -> None:
        directory.mkdir(exist_ok=True)
        self._path = _path(configuration, directory)
        # Not to be opened once more by this process: closing any descriptor of a file gives up the process's locks.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Give it up."""
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


def find(configuration: str, directory: Path = DIRECTORY) -> int | None:
    """Return the number of the process that uses a configuration file, if there is one."""
    try:
        descriptor = os.open(_path(configuration, directory), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, process = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK or process <= 0 else int(process)


def is_closed(directory: Path = DIRECTORY) -> bool:
    """Whether this user may not look there, so that nobody is found."""
    try:
        os.stat(f"{directory}/.")  # noqa: PTH116 - a Path would leave the dot out
    except PermissionError:
        return True
    except OSError:
        return False
    return False
