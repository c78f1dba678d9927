"""The guides, docs/guides/*.md, as programs: each block of commands in them, and how somebody follows one in the lab.

What a fenced block is for is said behind its language:

    sh HOST            commands for a host of the lab, which end
    sh HOST stays      a command that goes on until it is stopped
    LANGUAGE file: F   the content of a file, in the directory where the commands are run
    LANGUAGE not run: REASON
"""

import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from lab import Lab, Program
from namespaces import Namespace

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "guides"

HOSTS = {"vps", "internet", "client"}
FILE, NOT_RUN = "file: ", "not run: "

_BLOCK = re.compile(r"^```(\S*) ?(.*)\n((?s:.*?))^```$", re.MULTILINE)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a guide: under which heading, in which language, what for, and what is in it."""

    heading: str
    language: str
    purpose: str
    text: str


def blocks(guide: Path) -> list[Block]:
    """Return the fenced blocks of a guide in their order."""
    text = guide.read_text()
    headings = [(match.start(), match[1]) for match in _HEADING.finditer(text)]
    found = []
    for match in _BLOCK.finditer(text):
        heading = next((heading for start, heading in reversed(headings) if start < match.start()), "")
        found.append(Block(heading, *match.groups()))
    return found


class Follower:
    """Somebody who does what a guide says, heading by heading, in a lab and in a directory of his own."""

    def __init__(
        self, name: str, lab: Lab, directory: Path, *, docker_host: str | None = None, **others: Namespace
    ) -> None:
        """Write the guide's files to the directory. `others` are hosts beside those of the lab.

        `docker_host` is where the Docker engine of the vps is, if it has one.
        """
        self._settings = [] if docker_host is None else [f"DOCKER_HOST={docker_host}"]
        self._lab = lab
        self._directory = directory
        self._hosts = {"vps": lab.vps, "internet": lab.internet, **others}
        self.daemons: list[Program] = []
        """What was started and goes on, in its order."""
        self._to_do: list[Block] = []
        for block in blocks(GUIDES / f"{name}.md"):
            if block.purpose.startswith(FILE):
                (directory / block.purpose.removeprefix(FILE)).write_text(block.text)
            elif not block.purpose.startswith(NOT_RUN):
                self._to_do.append(block)
        # The guides write `ndpresponder`; it is what runs this test that is meant.
        program = directory / "bin" / "ndpresponder"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m ndpresponder "$@"\n'
        )
        program.chmod(0o755)

    def follow(self, heading: str) -> str:
        """Run what stands under a heading, and return what was printed by commands that ended."""
        printed = ""
        mine = [block for block in self._to_do if block.heading == heading]
        assert mine, f"nothing to run under {heading}"
        for block in mine:
            self._to_do.remove(block)
            role, _, stays = block.purpose.partition(" ")
            host = self._hosts[role]
            if stays:
                # Executed (by env, for variables may stand before it): a shell that is killed could leave it behind.
                daemon = self._lab.start(host, *self._shell(f"exec env {block.text}"))
                daemon.wait_for('"event": "ready"')
                self.daemons.append(daemon)
            else:
                printed += host.run(*self._shell(block.text)).stdout
        return printed

    def finish(self) -> None:
        """Check that nothing of the guide was left out."""
        assert self._to_do == []

    def read(self, name: str) -> str:
        """Return a file of the guide."""
        return (self._directory / name).read_text()

    def _shell(self, text: str) -> list[str]:
        path = f"PATH={self._directory / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["env", f"--chdir={self._directory}", path, *self._settings, "sh", "-euc", text]
