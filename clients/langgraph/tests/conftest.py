"""The fixtures of the client's tests."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "python"))

import pytest  # noqa: E402
from runloom import Client  # noqa: E402
from server import BINARY, Server  # noqa: E402


def pytest_configure(config):
    if not BINARY.exists():
        pytest.exit(f"there is no server at {BINARY}: ./test python-sdk builds it, RUNLOOM_BIN names another", returncode=2)


@pytest.fixture(scope="session")
def server():
    with Server() as server:
        yield server


@pytest.fixture
async def client(server):
    async with Client(server.address) as client:
        yield client
