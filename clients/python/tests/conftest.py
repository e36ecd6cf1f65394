"""Fixtures: a server of its own for the tests, and clients of it. `./test python-sdk` builds it; RUNLOOM_BIN names another."""
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from server import BINARY, Server  # noqa: E402

from runloom import Client, SyncClient  # noqa: E402

GRAPHS = pathlib.Path(__file__).resolve().parent / "graphs"


def pytest_configure(config):
    if not BINARY.exists():
        pytest.exit(f"there is no server at {BINARY}: ./test python-sdk builds it, RUNLOOM_BIN names another", returncode=2)


@pytest.fixture(scope="session")
def server():
    """One server for all tests that do not stop it."""
    with Server() as server:
        yield server


@pytest.fixture
def own_server():
    """A server that the test may stop, kill and start again."""
    with Server("--drain-timeout", "200ms") as server:
        yield server


@pytest.fixture
async def client(server):
    async with Client(server.address) as client:
        yield client


@pytest.fixture
def sync_client(server):
    with SyncClient(server.address) as client:
        yield client


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the server's output where a test failed."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for name in ("own_server", "server"):
            server = item.funcargs.get(name)
            if server:
                report.sections.append((f"output of {name}", "".join(server.lines[-100:])))
