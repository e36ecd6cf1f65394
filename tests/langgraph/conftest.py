"""The tests with LangGraph's own clients use the server of the tests in Python, and one with graphs of their own."""
import pathlib, sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))
from fixtures import *  # noqa: E402, F403
from server import Server  # noqa: E402


@pytest.fixture(scope="session")
def url(server):
    return f"http://{server.http}"


@pytest.fixture(scope="session")
def talks():
    """A server with the graphs beside these tests. A test may kill it and start it again."""
    with Server(graphs=HERE / "graphs") as server:
        yield server


@pytest.fixture
def talks_url(talks):
    return f"http://{talks.http}"
