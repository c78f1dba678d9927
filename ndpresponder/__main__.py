"""The start: `ndpresponder`, and `python -m ndpresponder`."""

from signal import SIG_BLOCK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit."""
    # The imports take most of the start. What process 1 of a container has no handler for is lost, unless it is
    # blocked: pid_namespaces(7). cli and daemon let each of them through as soon as it can be heard.
    pthread_sigmask(SIG_BLOCK, {SIGHUP, SIGINT, SIGTERM})
    from .cli import main as run  # noqa: PLC0415 - see above

    run()


if __name__ == "__main__":
    main()
