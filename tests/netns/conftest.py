"""What the tests in namespaces share."""

from collections.abc import Iterator

import pytest
from wire import Wire


@pytest.fixture
def wire(root: None) -> Iterator[Wire]:  # noqa: ARG001 - skips where namespaces are not allowed
    """A cable between ndpresponder's host and one that asks."""
    with Wire() as wire:
        yield wire


@pytest.fixture
def unplugged(root: None) -> Iterator[Wire]:  # noqa: ARG001 - skips where namespaces are not allowed
    """The two hosts before there is a cable."""
    with Wire(plugged=False) as wire:
        yield wire
