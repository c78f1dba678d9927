"""What all tests share: how hypothesis runs, and what a test needs that is not everywhere."""

import os

import pytest
from hypothesis import settings

# The machines that run this are shared: how long one example takes says nothing.
settings.register_profile("ndpresponder", deadline=None)
settings.load_profile("ndpresponder")


@pytest.fixture(scope="session")
def root() -> None:
    """Skip what makes network namespaces where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
