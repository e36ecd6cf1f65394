"""Where the packages of the JavaScript programs and the browser are."""
import os, pathlib, shutil

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# Where ./test has installed the packages of package.json.
NODE_HOME = pathlib.Path(os.environ.get("RUNLOOM_NODE_HOME") or HERE.parents[1] / "target" / "tools" / "langgraph")
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def browser():
    """The path of a browser. Without one the test is skipped, except in CI."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found and not os.environ.get("CI"):
        pytest.skip("there is no Chromium here: install chromium-headless-shell")
    assert found, "there is no Chromium here"
    return found
