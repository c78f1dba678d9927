"""How lines are written: for people on a terminal, as JSON elsewhere, with priorities for the journal."""

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from ndpresponder import log
from ndpresponder.log import LEVELS, Format

CLOCK = r"\d\d:\d\d:\d\d "


class Ear:
    """A stream that stands in for standard error, and its other end."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self.stream = os.fdopen(writing, "w", buffering=1)

    def setup(self, level: int, style: Format) -> None:
        """Let the log find this stream as standard error."""
        # Here and not in a fixture: pytest puts its own stream there between a fixture and its test.
        with redirect_stderr(self.stream):
            log.setup(level, style)

    def heard(self) -> list[str]:
        """Close the stream and return the lines that were written to it."""
        # A mark, since the end of a terminal shows as an error.
        self.stream.write("\0")
        self.stream.close()
        octets = b""
        while not octets.endswith(b"\0"):
            octets += os.read(self._reading, 4096)
        os.close(self._reading)
        return octets[:-1].decode().splitlines()


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No colour setting and no journal from outside; the logger as it was."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    logger = logging.getLogger("ndpresponder")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def pipe() -> Ear:
    """Standard error is a pipe."""
    return Ear(*os.pipe())


@pytest.fixture
def terminal() -> Ear:
    """Standard error is a terminal."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return Ear(master, slave)


def be_the_journal(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the stream as systemd.exec(5) does for one that it connected to the journal."""
    status = os.fstat(ear.stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")


def speak() -> None:
    """Say something on each level, all with the same words."""
    for say in (log.debug, log.info, log.warning, log.error, log.fatal):
        say("word", "some words", number=5)


def without_time(line: str) -> dict[str, Any]:
    """Return the fields of a JSON line, having checked that it was written just now."""
    fields: dict[str, Any] = json.loads(line)
    age = datetime.now(UTC) - datetime.fromisoformat(fields.pop("time"))
    # The time is cut to milliseconds.
    assert timedelta(0) <= age < timedelta(seconds=30)
    return fields


JSON_LINES = [
    {"level": level, "event": "word", "message": "some words", "number": 5}
    for level in ("debug", "info", "warn", "error", "fatal")
]


def test_a_pipe_gets_json(pipe: Ear) -> None:
    pipe.setup(logging.DEBUG, Format.AUTO)
    speak()

    assert list(map(without_time, pipe.heard())) == JSON_LINES


def test_json_on_a_terminal(terminal: Ear) -> None:
    terminal.setup(logging.DEBUG, Format.JSON)
    speak()

    assert list(map(without_time, terminal.heard())) == JSON_LINES


def test_json_has_its_fields_in_order_and_time_in_utc(pipe: Ear) -> None:
    pipe.setup(logging.INFO, Format.AUTO)
    log.info("word", 'a "quoted"\nmessage', first=1, second=None)

    [line] = pipe.heard()
    assert re.fullmatch(
        r'\{"time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", "level": "info", "event": "word", '
        r'"message": "a \\"quoted\\"\\nmessage", "first": 1, "second": null\}',
        line,
    )


def test_a_terminal_gets_coloured_lines_for_people(terminal: Ear) -> None:
    terminal.setup(logging.DEBUG, Format.AUTO)
    speak()

    patterns = [
        CLOCK + re.escape(rest)
        for rest in (
            "\033[2mdebug: some words\033[0m",
            "some words",
            "\033[33mwarn: some words\033[0m",
            "\033[31merror: some words\033[0m",
            "\033[1;31mfatal: some words\033[0m",
        )
    ]
    for pattern, line in zip(patterns, terminal.heard(), strict=True):
        assert re.fullmatch(pattern, line)


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("0", False), ("", True)])
def test_no_color(terminal: Ear, monkeypatch: pytest.MonkeyPatch, value: str, *, coloured: bool) -> None:
    """https://no-color.org: present and not an empty string, regardless of its value."""
    monkeypatch.setenv("NO_COLOR", value)
    terminal.setup(logging.INFO, Format.AUTO)
    log.error("word", "some words")

    [line] = terminal.heard()
    assert ("\033[" in line) is coloured


def test_lines_for_people_in_a_pipe_have_no_colour(pipe: Ear) -> None:
    pipe.setup(logging.INFO, Format.HUMAN)
    log.error("word", "some words")

    [line] = pipe.heard()
    assert re.fullmatch(CLOCK + "error: some words", line)


def test_the_journal_gets_priorities(pipe: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    be_the_journal(pipe, monkeypatch)
    pipe.setup(logging.DEBUG, Format.AUTO)
    speak()

    lines = pipe.heard()
    # sd-daemon(3): debug, info, warning, err, crit.
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert [without_time(line[3:]) for line in lines] == JSON_LINES


def test_lines_for_people_in_the_journal_leave_the_time_to_it(pipe: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    be_the_journal(pipe, monkeypatch)
    pipe.setup(logging.INFO, Format.HUMAN)
    log.info("word", "some words")
    log.warning("word", "some words")

    assert pipe.heard() == ["<6>some words", "<4>warn: some words"]


def test_a_journal_that_is_somebody_elses(pipe: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirected, the program still has the variable in its environment."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    pipe.setup(logging.INFO, Format.AUTO)
    log.info("word", "some words")

    [line] = pipe.heard()
    assert line.startswith('{"time": ')


def test_a_stream_without_a_descriptor() -> None:
    stream = io.StringIO()
    with redirect_stderr(stream):
        log.setup(logging.INFO, Format.AUTO)
    log.info("word", "some words")

    assert without_time(stream.getvalue()) == {"level": "info", "event": "word", "message": "some words"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DEBUG", ["debug", "info", "warn", "error", "fatal"]),
        ("INFO", ["info", "warn", "error", "fatal"]),
        ("WARN", ["warn", "error", "fatal"]),
        ("ERROR", ["error", "fatal"]),
        ("FATAL", ["fatal"]),
    ],
)
def test_levels(pipe: Ear, name: str, said: list[str]) -> None:
    pipe.setup(LEVELS[name], Format.JSON)
    speak()

    assert [json.loads(line)["level"] for line in pipe.heard()] == said
    assert log.verbose() is (name == "DEBUG")


def test_what_is_set_up_again_says_each_line_once(pipe: Ear) -> None:
    pipe.setup(logging.INFO, Format.JSON)
    pipe.setup(logging.INFO, Format.JSON)
    log.info("word", "some words")

    assert len(pipe.heard()) == 1


# Whoever reads it may hang


class Program:
    """A process that logs for nobody in particular; its words are in `code`, on standard input and output."""

    def __init__(self, code: str, stderr: int = subprocess.PIPE) -> None:
        first = (
            "import logging, sys\n"
            "from ndpresponder import log\n"
            "log.wait_for_nobody()\n"
            "log.setup(logging.ERROR, log.Format.JSON)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", first + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        """Wait for a line on its standard output."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Have its next input() return."""
        assert self.process.stdin
        self.process.stdin.write("\n")


FLOOD = "for number in range(3000): log.error('word', 'x' * 1000, number=number)\n"
"""Three times as much as is kept."""


def test_what_nobody_took_is_counted() -> None:
    with Program(f"{FLOOD}print('said', flush=True); input(); log.error('word', 'the end')") as program:
        assert program.hear() == "said"
        stderr = program.process.stderr
        assert stderr
        lines = [json.loads(stderr.readline())]
        while lines[-1]["event"] == "word":
            lines.append(json.loads(stderr.readline()))
        program.go_on()
        rest = [json.loads(line) for line in stderr]

    kept, told = lines[:-1], lines[-1]
    assert [line["number"] for line in kept] == list(range(len(kept)))
    lost = 3000 - len(kept)
    assert 0 < lost < 2500
    told.pop("time")
    assert told == {
        "level": "warn",
        "event": "lines-lost",
        "message": f"{lost} lines were lost here: whoever reads the log did not take them",
        "lines": lost,
    }
    assert [line["message"] for line in rest] == ["the end"]


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1)], ids=["return", "exit", "error"]
)
def test_the_end_waits_for_a_moment(end: str, code: int) -> None:
    with Program(FLOOD + end) as program:
        assert program.process.wait(10) == code


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError('last')", 1)], ids=["return", "exit", "error"]
)
def test_all_that_is_said_comes_in_order(end: str, code: int) -> None:
    said = "for number in range(1000): log.error('word', '', number=number); sys.stderr.write(f'raw {number}\\n')\n"
    with Program(said + end) as program:
        assert program.process.stderr
        lines = program.process.stderr.read().splitlines()
        assert program.process.wait(10) == code

    assert [json.loads(line)["number"] for line in lines[:2000:2]] == list(range(1000))
    assert lines[1:2000:2] == [f"raw {number}" for number in range(1000)]
    assert lines[2000:][-1:] == (["ValueError: last"] if "raise" in end else [])


def test_what_could_not_be_written_is_counted(tmp_path: Path) -> None:
    """As on a disk that is full for a while."""
    path = tmp_path / "log"
    code = (
        "import resource\n"
        "def limit(octets): resource.setrlimit(resource.RLIMIT_FSIZE, (octets, resource.RLIM_INFINITY))\n"
        "limit(0)\n"
        "for number in range(3): log.error('word', 'lost')\n"
        "sys.stderr.buffer.finish()\n"
        "limit(resource.RLIM_INFINITY)\n"
        "log.error('word', 'written')\n"
    )
    with path.open("wb") as stderr, Program(code, stderr.fileno()) as program:
        assert program.process.wait(10) == 0

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line.get("lines")) for line in lines] == [("word", None), ("lines-lost", 3)]


def test_a_reader_who_is_gone() -> None:
    with Program("input(); log.error('word', 'some words'); print('said', flush=True); input()") as program:
        assert program.process.stderr
        program.process.stderr.close()
        program.process.stderr = None
        program.go_on()
        assert program.hear() == "said"
        program.go_on()
        assert program.process.wait(10) == 0


def test_without_a_thread_all_is_written_as_before() -> None:
    """Where there may be no more processes; root is not limited."""
    limited = (
        "import logging, os, resource\n"
        "from ndpresponder import log\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "if not os.getuid(): os.setuid(65534)\n"
        "log.wait_for_nobody(); log.setup(logging.INFO, log.Format.HUMAN); log.info('word', 'some words')\n"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert re.fullmatch(CLOCK + "some words\n", done.stderr)
