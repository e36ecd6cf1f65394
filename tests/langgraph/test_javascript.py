"""The programs in JavaScript: LangGraph's client in Node, and pages in a browser. `./test langgraph` installs what they need."""
import re, shutil, subprocess

from javascript import HERE, NODE_HOME, browser


ROOT = HERE.parents[1]


def node(tmp_path, program, *arguments):
    # Modules are looked for beside the program.
    home = tmp_path / "program"
    shutil.copytree(HERE, home, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    (home / "node_modules").symlink_to(NODE_HOME / "node_modules")
    ended = subprocess.run(["node", program, *arguments], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
    assert ended.returncode == 0, ended.stdout


def test_langgraphs_client_in_node(url, tmp_path):
    node(tmp_path, "programs.mjs", url)


def test_the_newer_protocol_in_node(url, tmp_path):
    node(tmp_path, "threads.mjs", url)


def test_more_of_the_newer_protocol_in_node(talks_url, tmp_path):
    node(tmp_path, "talks.mjs", talks_url)


def test_remote_graphs_in_node(talks_url, tmp_path):
    node(tmp_path, "remote.mjs", talks_url)


def test_pages_in_a_browser(url, tmp_path):
    node(tmp_path, "browser.mjs", url, browser())


def test_the_react_pages_of_the_documentation(url, tmp_path):
    """As a reader builds them: with the command in the README."""
    readme, guide = ((ROOT / page).read_text() for page in ("README.md", "docs/guides/react.md"))
    command, = re.findall(r"^npx esbuild chat.jsx (.*) --servedir=. --serve=[\d.:]+$", readme, re.M)
    index, = re.findall(r"^echo '(.*)' > index.html$", readme, re.M)
    for name, page in {"chat": readme, "approval": guide}.items():
        source, = re.findall(r"^```jsx\n(.*?)^```$", page, re.M | re.S)
        home = tmp_path / name
        home.mkdir()
        (home / "node_modules").symlink_to(NODE_HOME / "node_modules")
        (home / "index.html").write_text(index)
        (home / "chat.jsx").write_text(source.replace("http://127.0.0.1:8123", url))
        subprocess.run(["npx", "--no-install", "esbuild", "chat.jsx", *command.split()], cwd=home, check=True, capture_output=True)
    node(tmp_path, "documented.mjs", str(tmp_path), browser())
