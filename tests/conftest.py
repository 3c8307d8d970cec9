"""Ends what the tests' processes share."""

from warm import stop_servers


def pytest_sessionfinish() -> None:
    stop_servers()
