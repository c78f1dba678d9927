"""`monitor`, beside the real daemon: what it shows, and that nobody waits for it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT

import pytest
from lab import wait_until
from namespaces import end
from scapy.utils import PcapReader
from vectors import TARGET, advertise, solicit
from wire import PREFIX, Wire, event, events

from ndpresponder.sight import PCAP_HEADER

OTHER = "2001:db8::d004"
WHO_HAS = f"IP6 fe80::fe > ff02::1:ff00:d003: ICMP6, neighbor solicitation, who has {TARGET}, length 32"
TARGET_IS = f"IP6 {TARGET} > fe80::fe: ICMP6, neighbor advertisement, tgt is {TARGET}, length 32"


class Watched:
    """A daemon with a runtime directory of its own, and those who watch it."""

    def __init__(self, wire: Wire, directory: Path) -> None:
        self.wire = wire
        self._environment = {"RUNTIME_DIRECTORY": str(directory)}
        self.program = wire.answering("-n", PREFIX, "-x", "2001:db8::e000/120", environment=self._environment)
        event(self.program, "owned")
        self._sockets = directory

    @contextmanager
    def monitor(self, *arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
        """Run `monitor`, and wait until it watches."""
        process = subprocess.Popen(
            [sys.executable, "-m", "ndpresponder", "monitor", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=os.environ | self._environment,
            text=True,
        )
        try:
            assert process.stderr
            assert process.stderr.readline() == "watching eth0\n"
            yield process
        finally:
            end(process)

    def send_bad(self) -> None:
        frame = bytes(solicit(TARGET))
        self.wire.send(frame[:57] + bytes([frame[57] ^ 1]) + frame[58:])


@pytest.fixture
def watched(wire: Wire, tmp_path: Path) -> Watched:
    # It says so when the snapshot has come.
    wire.host.ip("address add 2001:db8::5/64 dev eth0")
    return Watched(wire, tmp_path / "run")


def taken(process: subprocess.Popen[str], number: int) -> list[str]:
    """Return the next lines of output."""
    assert process.stdout
    return [process.stdout.readline().rstrip("\n") for _ in range(number)]


def test_lines_for_people(watched: Watched) -> None:
    with watched.monitor() as process:
        watched.send_bad()
        assert watched.wire.ask(TARGET) == [advertise()]
        # Behind the time of day.
        assert [re.sub(r"^\d\d:\d\d:\d\d\.\d{6} ", "", line) for line in taken(process, 3)] == [
            f"eth0  In  {WHO_HAS} -- refused: checksum",
            f"eth0  In  {WHO_HAS}",
            f"eth0  Out {TARGET_IS}",
        ]
        # Ctrl-C is the way to end it.
        process.send_signal(SIGINT)
        assert process.wait(10) == 0
        assert process.communicate() == ("", "")
    assert watched.program.stop() == 0
    assert [line["event"] for line in events(watched.program)] == ["ready", "owned", "stopped"]


def test_lines_for_programs_and_several_at_a_time(watched: Watched) -> None:
    frame = bytes(solicit(TARGET))
    with watched.monitor("-j") as first, watched.monitor("-j", "-i", "eth0") as second:
        before = time.time()
        assert watched.wire.ask(TARGET) == [advertise()]
        for process in (first, second):
            [line] = taken(process, 1)
            told = json.loads(line)
            assert abs(told.pop("time") - before) < 5
            assert told == {
                "interface": "eth0",
                "frame": frame.hex(),
                "answer": advertise().hex(),
                "verdict": "answered",
            }


def test_a_file_and_the_end_of_the_daemon(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "f.pcap"
    with watched.monitor("-w", str(path)) as process:
        watched.send_bad()
        watched.wire.ask(TARGET, OTHER)
        wait_until(lambda: path.stat().st_size == len(PCAP_HEADER) + 5 * (16 + 86), "five frames")
        assert watched.program.stop() == 0
        assert process.wait(10) == 1
        assert process.communicate() == (
            "",
            "ndpresponder: the daemon has ended, or has waited too long for this to be read\n",
        )
    with PcapReader(str(path)) as reader:
        frames = [bytes(packet) for packet in reader]
    asked = [bytes(solicit(target)) for target in (TARGET, OTHER)]
    assert frames[1:] == [asked[0], advertise(TARGET), asked[1], advertise(OTHER)]


def test_when_nobody_reads_any_more(watched: Watched) -> None:
    """As with `| head`, which ends before there is a next line."""
    with watched.monitor() as process:
        watched.wire.ask(TARGET)
        assert len(taken(process, 2)) == 2
        assert process.stdout
        process.stdout.close()
        assert process.wait(10) == 0
    assert watched.program.stop() == 0


def test_nobody_waits_for_one_who_does_not_read(watched: Watched) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, watched.monitor("-j", stdout=write) as process:
        os.close(write)
        asked = [f"2001:db8::{number:x}" for number in range(0x100, 0x100 + 50)]
        begun = time.monotonic()
        # Until the pipe, what is under way, and what is kept are full.
        for _ in range(100):
            assert len(watched.wire.ask(*asked)) == 50
        assert time.monotonic() - begun < 20
        # What was lost is told as soon as somebody reads.
        seen = 0
        while "lost" not in (told := json.loads(pipe.readline())):
            seen += 1
        assert told["lost"] > 0
        assert seen + told["lost"] <= 5000
        process.send_signal(SIGINT)
        assert process.wait(10) == 0
    assert watched.program.stop() == 0
    assert events(watched.program)[-1]["message"] == "stopped: answered 5000"


def test_without_a_daemon(root: None, tmp_path: Path) -> None:  # noqa: ARG001 - as the others
    done = subprocess.run(
        [sys.executable, "-m", "ndpresponder", "monitor"],
        env=os.environ | {"RUNTIME_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ndpresponder: no daemon was found: no control socket in {tmp_path} answers\n"
