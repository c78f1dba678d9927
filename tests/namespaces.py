"""Network namespaces: hosts that are real to the kernel, and gone when the test is.

Names carry the pid of the process that made them, so that what a killed run left behind can be told from
what another run is using, and swept.
"""

import ctypes
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any, Self

NAMES = Path("/run/netns")
_NAME = re.compile(r"ndpr-(\d+)-")
_CLONE_NEWNET = 0x40000000
_numbers = count(1)


def run(*command: str | Path, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command and return it completed, with its output as text; a failure shows what it printed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Namespace:
    """One host: a network namespace and the processes that were started in it."""

    def __init__(self, role: str) -> None:
        self.name = f"ndpr-{os.getpid()}-{next(_numbers)}-{role}"
        self.path = NAMES / self.name
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        run("ip", "netns", "add", self.name)
        self._cleanup.callback(run, "ip", "netns", "del", self.name)
        self.ip("link set lo up")
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def command(self, *command: str | Path) -> list[str]:
        """Return the command as it is run inside. nsenter executes it, so the pid is the command's own."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, command)]

    def run(self, *command: str | Path, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return it completed."""
        return run(*self.command(*command), check=check, timeout=timeout)

    def ip(self, words: str) -> str:
        """Run `ip` with these words inside and return what it printed."""
        return self.run("ip", *words.split()).stdout

    def batch(self, lines: Iterable[str]) -> None:
        """Run `ip -6` with the words of each line inside, all in one process."""
        text = "".join(f"{line}\n" for line in lines)
        subprocess.run(self.command("ip", "-6", "-batch", "-"), input=text, text=True, timeout=120, check=True)

    def sysctl(self, key: str, value: object) -> None:
        """Set a sysctl inside; the key is written with slashes."""
        self.run("sysctl", "-q", "-w", f"{key}={value}")

    def popen(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a command inside. It is ended with the namespace at the latest."""
        process = subprocess.Popen(self.command(*command), text=True, **{"stdin": subprocess.DEVNULL, **options})
        self._cleanup.callback(end, process)
        return process

    def await_carrier(self, interface: str) -> None:
        """Wait until what is sent on an interface leaves it, for up to five seconds.

        The kernel gets to know of a carrier at once, but makes use of it in a work queue (net/core/link_watch.c). Until
        then it drops what is sent, and says nothing.
        """
        deadline = time.monotonic() + 5
        while "state UP" not in self.ip(f"link show dev {interface}"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{interface} of {self.name}: no carrier within 5 s")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread inside: a socket that is made here belongs to the namespace for good."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(path: Path) -> None:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if libc.setns(descriptor, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {path}")
            finally:
                os.close(descriptor)

        descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(self.path)
            yield
        finally:
            enter(Path(f"/proc/self/fd/{descriptor}"))
            os.close(descriptor)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process that this one started, wait for it and close its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def connect(first: Namespace, first_name: str, second: Namespace, second_name: str) -> None:
    """Lay a cable, a veth pair with both ends up, between two namespaces."""
    first.ip(f"link add {first_name} type veth peer name {second_name} netns {second.name}")
    first.ip(f"link set {first_name} up")
    second.ip(f"link set {second_name} up")
    first.await_carrier(first_name)
    second.await_carrier(second_name)


def sweep() -> None:
    """Delete the namespaces of runs that are no more, and end what still runs in them."""
    for path in NAMES.glob("ndpr-*"):
        if (match := _NAME.match(path.name)) and not Path(f"/proc/{match[1]}").exists():
            # Others may be sweeping at the same time.
            for pid in run("ip", "netns", "pids", path.name, check=False).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), SIGKILL)
            run("ip", "netns", "del", path.name, check=False)
