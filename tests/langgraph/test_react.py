"""Pages in React in a real browser: both hooks of LangChain, over SSE and WebSocket, against a server that is killed and started again."""
import contextlib, json, pathlib, shutil, subprocess

import pytest

from javascript import HERE, NODE_HOME, browser
from server import Server

CASES = ("tokens", "again", "stop", "reload", "question", "reload_and_answer", "failure", "two_tabs", "two_tabs_answer", "crash", "crash_at_question")
PAGES = {"newer-sse": ("newer", "sse"), "newer-websocket": ("newer", "websocket"), "older": ("older", "sse")}


@pytest.fixture(scope="module")
def pages():
    """A server with the graphs of the pages."""
    with Server(graphs=HERE / "web" / "graphs") as server:
        yield server


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The program that plays cases in a browser."""
    home = tmp_path_factory.mktemp("web") / "web"
    shutil.copytree(HERE / "web", home)
    (home / "node_modules").symlink_to(NODE_HOME / "node_modules")
    process = subprocess.Popen(["node", "drive.mjs", browser()], cwd=home, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process
    process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def tell(driver, what):
    driver.stdin.write(f"{json.dumps(what)}\n")
    driver.stdin.flush()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("case", CASES)
def test_page(driver, pages, case, page):
    hook, transport = PAGES[page]
    tell(driver, {"name": case, "api": f"http://{pages.http}", "hook": hook, "transport": transport})
    for line in driver.stdout:
        said = json.loads(line)
        if "server" not in said:
            break
        getattr(pages, said["server"])()
        tell(driver, "done")
    else:
        raise AssertionError("the browser's program ended")
    assert said["ok"], said["error"]
