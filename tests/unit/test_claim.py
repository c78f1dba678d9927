"""claim: which process uses a configuration file, as another process sees it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ndpresponder.claim import Claim, find, is_closed

# Says that it has made a claim, and holds it until it is told to end.
HOLDER = """\
import sys
from pathlib import Path
from ndpresponder.claim import Claim
claim = Claim(sys.argv[1], Path(sys.argv[2]))
print("claimed", flush=True)
if sys.stdin.readline():
    claim.close()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that does not exist yet."""
    return tmp_path / "run"


@pytest.fixture
def holder(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that uses /etc/a.toml."""
    command = [sys.executable, "-c", HOLDER, "/etc/a.toml", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()


def test_the_one_that_has_it_is_found(directory: Path, holder: "subprocess.Popen[str]") -> None:
    assert find("/etc/a.toml", directory) == holder.pid
    assert find("/etc/b.toml", directory) is None


def test_by_another_way_to_write_it(
    directory: Path, holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/etc")
    assert find("a.toml", directory) == holder.pid
    assert find("./a.toml", directory) == holder.pid
    assert find("../etc/default/../a.toml", directory) == holder.pid


def test_by_one_who_may_not_look(directory: Path) -> None:
    """That is not as if there were none."""
    assert not is_closed(directory)
    directory.mkdir()
    assert not is_closed(directory)
    configuration = directory.parent / "f.toml"
    configuration.write_text('[[interface]]\nifname = "ndpr-absent"\nsubnet = "2001:db8::/112"\n')
    directory.chmod(0)
    # Root without its capabilities is anybody.
    anybody = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*anybody, sys.executable, "-m", "ndpresponder", "reload", "-c", configuration],
        env=os.environ | {"RUNTIME_DIRECTORY": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    directory.chmod(0o700)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ndpresponder: {directory}: permission denied; root may reload\n"


def test_it_ends_with_the_process(directory: Path, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    # What is left of it is a file that nobody has locked.
    assert len(list(directory.iterdir())) == 1
    assert find("/etc/a.toml", directory) is None
    with closing(Claim("/etc/a.toml", directory)):
        assert len(list(directory.iterdir())) == 1


def test_nothing_is_left_of_one_that_is_given_up(directory: Path, holder: "subprocess.Popen[str]") -> None:
    printed, _ = holder.communicate("end\n")
    assert printed == ""
    assert list(directory.iterdir()) == []
    assert find("/etc/a.toml", directory) is None


def test_a_second_one_is_refused(directory: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(BlockingIOError):
        Claim("/etc/a.toml", directory)
    assert find("/etc/a.toml", directory) == holder.pid
    Claim("/etc/b.toml", directory).close()


def test_a_name_that_is_too_long_for_a_file(directory: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        Claim("/etc/" + 50 * "directory/", directory)
    assert find("/etc/" + 50 * "directory/", directory) is None
