"""The end-to-end tests in Python: their fixtures are those of `fixtures.py`."""
from fixtures import *  # noqa: F403
