"""The wheel, installed where nothing of the source tree is."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from ndpresponder import __version__

ROOT = Path(__file__).parents[2]
SNAPSHOT = """
import asyncio, ndpresponder
from ndpresponder.netlink import snapshot
print(ndpresponder.__file__)
print(asyncio.run(snapshot("lo")).ifname)
"""

# It takes as long whatever the versions of the libraries, and it downloads them.
pytestmark = pytest.mark.minutes


def run(*command: str | Path, directory: Path) -> str:
    """Run a command in a directory, with nothing in its environment that is for Python, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_needs_nothing_of_the_source_tree(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT, directory=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name == f"ndpresponder-{__version__}-py3-none-any.whl"
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv/bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel, directory=tmp_path)

    version = f"ndpresponder, version {__version__}\n"
    assert run(programs / "ndpresponder", "--version", directory=tmp_path) == version
    assert run(programs / "python", "-m", "ndpresponder", "--version", directory=tmp_path) == version
    # The process that takes snapshots finds the same modules.
    where, name = run(programs / "python", "-c", SNAPSHOT, directory=tmp_path).splitlines()
    assert Path(where).is_relative_to(tmp_path / "venv")
    assert name == "lo"
