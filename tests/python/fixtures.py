"""Fixtures of the end-to-end tests, in Python and with grpcurl."""
import pytest

from server import BINARY, Server
from wire import Api


def pytest_configure(config):
    if not BINARY.exists():
        pytest.exit(f"there is no server at {BINARY}: ./test python builds it, RUNLOOM_BIN names another", returncode=2)


@pytest.fixture(scope="session")
def server():
    """One server for all tests that leave it alone."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def api(server):
    api = Api(server.address)
    yield api
    api.close()


@pytest.fixture
def own_server():
    """A server that the test may stop, kill and start again."""
    with Server("--drain-timeout", "200ms") as server:
        yield server


@pytest.fixture
def connect():
    """Connects to a server; closes after the test."""
    opened = []

    def connect(server):
        opened.append(Api(server.address))
        return opened[-1]
    yield connect
    for api in opened:
        api.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where a test fails, what its server wrote."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for name in ("own_server", "server"):
            server = item.funcargs.get(name)
            if server:
                report.sections.append((f"what {name} wrote", "".join(server.lines[-100:])))
