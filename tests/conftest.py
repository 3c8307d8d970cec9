"""What tests share, and the end of the processes that they share."""

import pytest

from warm import stop_servers


@pytest.fixture
def no_proxy(monkeypatch):
    """Lets no proxy of the machine stand before a server on 127.0.0.1."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def pytest_sessionfinish() -> None:
    stop_servers()
