"""A Debian machine with a systemd of its own: a container that boots, in a network namespace of the test's."""

import os
import shutil
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from lab import Program, wait_until
from namespaces import Namespace, run

SUITE = "bookworm"
TOOLS = "mmdebstrap", "systemd-nspawn", "nsenter", "setpriv", "unshare"
"""What this needs."""
_ENVIRONMENT = "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"
_BOOT = 60.0
# Goes into a cgroup of its own in each hierarchy, since what boots takes the one that it is in for its root; and is
# killed, with all that it has started, when whoever started it ends.
_LAUNCH = """
set -e
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
exec setpriv --pdeathsig KILL unshare --pid --fork --kill-child "$@"
"""


def make_tree(tree: Path, *later: str) -> None:
    """Make the files of a minimal Debian with systemd; the packages `later` can be installed without a network then."""
    run(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=systemd,systemd-sysv,dbus"),
        *("--aptopt=Acquire::Languages none", "--skip=cleanup/apt"),
        f"--customize-hook=chroot $1 apt-get install --yes --quiet=2 --download-only {' '.join(later)} >/dev/null",
        *(SUITE, tree),
        timeout=300,
    )


class Machine:
    """A machine that boots from `tree`, which it does not change, on entry and is gone on exit."""

    def __init__(self, tree: Path, network: Namespace) -> None:
        self._tree = tree
        self._network = network
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        _sweep()
        with ExitStack() as undo:
            cgroups = [root / f"{self._network.name}-machine" for root in _hierarchies()]
            for cgroup in cgroups:
                cgroup.mkdir()
                undo.callback(_remove, cgroup)
            # systemd-nspawn moves into the network by itself: it must know that it has one of its own.
            command = (
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"),
                *("--volatile=overlay", f"--directory={self._tree}", f"--machine={self._network.name}"),
                *(f"--network-namespace-path={self._network.path}", "--capability=CAP_NET_ADMIN"),
                *("--resolv-conf=off", "--timezone=off"),
            )
            launch = "sh", "-c", _LAUNCH, "sh", *map(str, cgroups), "--", *command
            self._console = undo.enter_context(Program(self._network, *launch))
            wait_until(self._has_booted, "the end of the boot", _BOOT)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _has_booted(self) -> bool:
        if self._console.process.poll() is not None:
            raise RuntimeError(self._console.printed())
        try:
            return self.run("systemctl", "is-system-running", check=False).stdout.strip() == "running"
        except ProcessLookupError:
            return False

    def _init(self) -> int:
        """Return the pid of the machine's first process: below unshare, systemd-nspawn, and below that."""
        pid = self._console.process.pid
        for _ in range(2):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                raise ProcessLookupError
            pid = int(children[0])
        return pid

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root, and return it completed."""
        inside = "nsenter", f"--target={self._init()}", "--all", *_ENVIRONMENT
        return run(*inside, *command, check=check, timeout=timeout)

    def write(self, path: str, text: str) -> None:
        """Write a file inside, and make the directory that it is in."""
        file = self.outside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, path: str) -> str:
        """Return the text of a file inside."""
        return self.outside(path).read_text()

    def copy(self, file: Path, path: str) -> None:
        """Copy a file of this machine inside."""
        shutil.copy(file, self.outside(path))

    def outside(self, path: str) -> Path:
        """Return where a file inside can be reached from outside."""
        return Path(f"/proc/{self._init()}/root{path}")


def _hierarchies() -> list[Path]:
    """Where systemd keeps cgroups: one tree (version 2), or two beside those of single controllers (version 1)."""
    top = Path("/sys/fs/cgroup")
    return [root for root in (top / "systemd", top / "unified") if root.exists()] or [top]


def _sweep() -> None:
    """Remove the cgroups of runs that are no more; the kernel has ended what ran in them."""
    for root in _hierarchies():
        for cgroup in root.glob("ndpr-*-machine"):
            if not Path("/proc", cgroup.name.split("-")[1]).exists():
                _remove(cgroup)


def _remove(cgroup: Path) -> None:
    """Remove a cgroup in which nothing runs any more, from the leaves on."""

    def removed() -> bool:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            # What was killed takes a moment to be gone.
            with suppress(OSError):
                Path(directory).rmdir()
        return not cgroup.exists()

    wait_until(removed, f"the end of {cgroup}")
