"""What all tests share: how hypothesis runs, in which order tests do, and what one needs that is not everywhere."""

import os
from compileall import compile_dir
from pathlib import Path

import pytest
from hypothesis import settings
from namespaces import sweep

import ndpresponder

# The machines that run this are shared: how long one example takes says nothing.
settings.register_profile("ndpresponder", deadline=None)
settings.load_profile("ndpresponder")


@pytest.fixture(scope="session")
def root() -> None:
    """Skip what makes network namespaces, or runs what does, where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


def minutes(item: pytest.Item) -> int:
    """Return about how many minutes a test takes, by its marker."""
    marker = item.get_closest_marker("minutes")
    return (marker.args or (1,))[0] if marker else 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest tests begin first, each with another worker where there are several.

    Of xdist's workers each has an equal part of the list to begin with (`--dist worksteal`), the first ones get
    fewer where that does not come out even. So the tests are dealt like cards.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items.sort(key=minutes, reverse=True)
    items[:] = [item for worker in reversed(range(workers)) for item in items[worker::workers]]


def pytest_configure() -> None:
    """Compile the program, as installing it does: where Python is told to write no bytecode, each start would do it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        compile_dir(Path(ndpresponder.__file__).parent, quiet=1)


def pytest_unconfigure() -> None:
    """Clear up after workers that had to be killed, as those are that do not heed an interruption soon."""
    if os.geteuid() == 0 and "PYTEST_XDIST_WORKER" not in os.environ:
        sweep()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured, whether they passed or not."""
    reports = [each for word in ("passed", "failed") for each in terminalreporter.stats.get(word, [])]
    lines = [f"{each.nodeid}: {what}: {value}" for each in reports for what, value in each.user_properties]
    if lines:
        terminalreporter.section("measured")
        terminalreporter.write("".join(f"{line}\n" for line in lines))
