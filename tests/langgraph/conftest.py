"""The tests with LangGraph's own clients use the server of the tests in Python."""
import pathlib, sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from fixtures import *  # noqa: E402, F403


@pytest.fixture(scope="session")
def url(server):
    return f"http://{server.http}"
