"""A server of real models on this machine, and a folder with an agent that calls it."""
import os, pathlib, subprocess, sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BINARY = pathlib.Path(os.environ.get("RUNLOOM_BIN") or ROOT / "target" / "debug" / "runloom")


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """The address of llama.cpp's server, with a model of random weights."""
    model = tmp_path_factory.mktemp("model") / "random.gguf"
    subprocess.run([sys.executable, HERE / "tiny.py", model], check=True)
    log = (model.parent / "server.log").open("w")
    server = subprocess.Popen([sys.executable, HERE / "serve.py", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), pathlib.Path(log.name).read_text()
        yield address
    finally:
        server.stdin.close()
        server.wait(timeout=30)


@pytest.fixture
def graphs(llama, tmp_path):
    """A folder with the agent."""
    (tmp_path / "talk.yaml").write_text(f"""
runloom: v1
name: talk
state:
  messages: {{ reducer: messages }}
models:
  llama:
    provider: openai
    model: random
    base_url: {llama}/v1
    temperature: 0
    seed: 1
    max_tokens: 12
    extra_body: {{ cache_prompt: true }}
nodes:
  talk: {{ chat_model: {{ model: llama, system: Be brief. }} }}
edges: [ {{ from: START, to: talk }} ]
""")
    return tmp_path


@pytest.fixture
def runloom(graphs):
    """Runs the binary with the folder, without anybody's key."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}

    def run(*arguments):
        command = [BINARY, *arguments, "--graphs", graphs]
        return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    return run
