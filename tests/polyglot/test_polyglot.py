"""The example with nodes in four languages: it runs as its README says, and each of its programs can be killed in the middle of its node.

`./test polyglot` builds it and names the programs.
"""
import collections, os, pathlib, re, signal, socket, subprocess, time

import pytest
from runloom import Custom, End, MessageChunk, SyncClient

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / "examples" / "polyglot" / "run"
PARTS = ("server", "typescript", "go", "python")
LOG = ["verified by TypeScript", "approved by Go", "refunded by Rust", "answered by Python"]


@pytest.fixture(autouse=True)
def limit():
    """A test that waits for something that does not come fails."""

    def fail(*_):
        raise TimeoutError("the test is not done after 90 s")

    signal.signal(signal.SIGALRM, fail)
    signal.alarm(90)
    yield
    signal.alarm(0)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Programs:
    """The programs of the example. `run PART` becomes the program, so that its process id is the program's."""

    def __init__(self, data):
        self.address, self.data, self.processes = f"127.0.0.1:{free_port()}", data, {}
        self.kills = collections.Counter()

    def __enter__(self):
        for part in PARTS:
            self.start(part)
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def start(self, part):
        arguments = [str(self.data)] if part == "server" else []
        environment = {**os.environ, "POLYGLOT_DELAY_MS": "400"}
        self.processes[part] = subprocess.Popen([RUN, part, self.address, *arguments], env=environment)

    def kill(self, part):
        """Ends a program as a crash would, and starts it again."""
        process = self.processes[part]
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        self.kills[part] += 1
        self.start(part)


def attached(client):
    until = time.monotonic() + 60
    while {worker.queue for worker in client.workers.list()} != {"typescript", "go", "python"}:
        assert time.monotonic() < until, "the workers do not attach"
        time.sleep(0.05)


def part_of(payload):
    """The program in whose node a part was emitted."""
    match payload:
        case Custom(payload=data):
            return {"TypeScript": "typescript", "Go": "go", "Rust": "server"}[data["language"]]
        case MessageChunk():
            return "python"
    return None


def converse(client, programs, killed):
    """Runs the agent, and answers its question. Kills each program once, at the first part that its node emits. Returns the thread's state."""
    thread = client.threads.create().thread_id
    left, run = set(killed), {"input": {"order_id": "A-7"}}
    for expected in ("awaiting_input", "succeeded"):
        numbers = []
        for part in client.runs.stream("support", thread_id=thread, stream_modes=["custom", "messages"], stream_subgraphs=True, durability="sync", **run):
            if part.seq:
                numbers.append(part.seq)
            if (program := part_of(part.payload)) in left:
                left.discard(program)
                programs.kill(program)
            if isinstance(part.payload, End):
                assert part.payload.state == expected, part.payload
        assert numbers == sorted(set(numbers)), "a part is missing its place, or came twice"
        run = {"command": {"resume": {"approved": True}}}
    assert not left, f"{left} emitted nothing"
    return client.threads.state(thread).checkpoint.values


@pytest.mark.parametrize("killed", [(), *((part,) for part in PARTS), PARTS], ids="-".join)
def test_a_run_ends_right_whatever_is_killed_in_the_middle(killed, tmp_path):
    with Programs(tmp_path / "data") as programs, SyncClient(programs.address) as client:
        attached(client)
        values = converse(client, programs, killed)
        assert values["log"] == LOG
        assert [message["type"] for message in values["messages"]] == ["ai"]
        assert re.fullmatch(r"I am sorry about the delay\. I have refunded 129(\.0)? to your card: R-\w+\.", values["messages"][0]["content"])
        assert programs.kills == dict.fromkeys(killed, 1)


def test_one_command_starts_all_of_it():
    environment = {**os.environ, "PORT": str(free_port()), "POLYGLOT_DELAY_MS": "50"}
    done = subprocess.run([RUN], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=120)
    readme = (RUN.parent / "README.md").read_text()
    shown = re.search(r"^```text\n(.*?)^```$", readme, re.S | re.M)[1]
    plain = lambda text: re.sub(r"R-\w+|127\.0\.0\.1:\d+", "*", text)  # noqa: E731
    assert done.returncode == 0
    assert plain(done.stdout) == plain(shown)
