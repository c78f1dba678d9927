"""The rooms of the program: who may import whom, and each library's one door."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ndpresponder"
# A module imports only from the layers above its own line.
LAYERS = [
    {"__init__", "verdict", "policy", "addresses"},
    {
        "packet",
        "filter",
        "config",
        "link",
        "netlink",
        "rtnetlink",
        "log",
        "docker",
        "places",
        "systemd",
        "claim",
        "control",
        "status",
    },
    {"announce", "decide", "gateway", "multicast", "file", "client", "hearing", "host", "sight"},
    {"responder", "ndppd", "report", "checks", "monitor"},
    {"uplink"},
    {"station", "state", "metrics"},
    {"daemon", "doctor", "explain"},
    {"cli", "__main__"},
]
# Within a layer, and in this direction only.
BESIDE = {
    ("addresses", "verdict"),
    ("filter", "packet"),
    ("link", "filter"),
    ("link", "packet"),
    ("config", "log"),
    ("docker", "log"),
    ("netlink", "rtnetlink"),
    ("control", "log"),
    ("status", "log"),
    ("announce", "gateway"),
    ("metrics", "station"),
    ("explain", "doctor"),
    ("__main__", "cli"),
}
DOORS = {"pyroute2": {"netlink"}, "click": {"cli"}, "docker": {"docker"}, "prometheus_client": {"metrics"}}
MODULES = sorted(PACKAGE.glob("*.py"))


def imports(path: Path) -> set[tuple[int, str]]:
    """Each imported module: how many dots stand before it, and its first name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name.partition(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add((node.level, node.module.partition(".")[0]))
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.level, alias.name) for alias in node.names}
    return found


def layer(module: str) -> int:
    return next(number for number, modules in enumerate(LAYERS) if module in modules)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_down(path: Path) -> None:
    for dots, name in imports(path):
        if dots and name != "__version__":
            assert layer(name) < layer(path.stem) or (path.stem, name) in BESIDE, name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_each_library_has_one_door(path: Path) -> None:
    outside = {name for dots, name in imports(path) if not dots} - set(sys.stdlib_module_names)
    assert all(path.stem in DOORS[name] for name in outside), outside


def test_answering_does_not_wait_for_slow_imports() -> None:
    script = "import sys, ndpresponder.cli, ndpresponder.daemon; print('pyroute2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
