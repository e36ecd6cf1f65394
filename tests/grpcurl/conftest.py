"""The tests with grpcurl use the server of the tests in Python."""
import pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from fixtures import *  # noqa: E402, F403
