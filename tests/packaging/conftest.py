"""What the tests of packages share: the package, and a Debian to install it on."""

import shutil
from fcntl import LOCK_EX, flock
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from machine import SUITE, TOOLS, make_tree
from namespaces import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this tree."""
    if missing := [tool for tool in ("dh", "hatchling", "pybuild") if shutil.which(tool, path="/usr/bin") is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    directory = tmp_path_factory.mktemp("package")
    run(ROOT / "packaging/build-deb", directory, timeout=120)
    [package] = directory.iterdir()
    return package


@pytest.fixture(scope="session")
def tree(root: None) -> Path:  # noqa: ARG001 - skips where root is not to be had
    """The files of a minimal Debian. They stay where they are: what boots from them does not change them."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with (build / "lock").open("w") as lock:
        # Of those that run at the same time, one makes it.
        flock(lock, LOCK_EX)
        tree = build / f"machine-{SUITE}"
        if not tree.exists():
            with TemporaryDirectory(dir=build) as unfinished:
                made = Path(unfinished) / "tree"
                make_tree(made, "python3-click", "python3-docker", "python3-prometheus-client", "python3-pyroute2")
                made.rename(tree)
    return tree
