"""Pages in React in a real browser: both hooks of LangChain, over SSE and WebSocket, against a server that is killed and started again."""
import json, shutil, subprocess

import pytest

from javascript import HERE, NODE_HOME, browser

CASES = ("tokens", "again", "stop", "reload", "question", "reload_and_answer", "failure", "two_tabs", "two_tabs_answer", "crash", "crash_at_question")
PAGES = {"newer-sse": ("newer", "sse"), "newer-websocket": ("newer", "websocket"), "older": ("older", "sse")}


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
def test_page(driver, talks, case, page):
    hook, transport = PAGES[page]
    tell(driver, {"name": case, "api": f"http://{talks.http}", "hook": hook, "transport": transport})
    for line in driver.stdout:
        said = json.loads(line)
        if "server" not in said:
            break
        getattr(talks, said["server"])()
        tell(driver, "done")
    else:
        raise AssertionError("the browser's program ended")
    assert said["ok"], said["error"]
