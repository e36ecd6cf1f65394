"""The two servers that bench/http/run compares, on the same graph documents, each a process of its own on a free port."""
import json, os, pathlib, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request, venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GRAPHS = HERE / "graphs"
PEER = ROOT / "tests" / "conformance" / "peer"
# LangGraph's takes seconds to load.
PATIENCE = 120


def say(text):
    print(text, file=sys.stderr, flush=True)


def python():
    """The interpreter of an environment that has what requirements.txt says, and what it refers to."""
    home = ROOT / "target" / "bench-http"
    wanted = "".join(file.read_text() for file in (HERE / "requirements.txt", PEER / "requirements.txt"))
    mark, executable = home / "installed", home / "bin" / "python"
    if not mark.exists() or mark.read_text() != wanted:
        say("installing LangGraph's server")
        venv.create(home, clear=True, with_pip=True)
        subprocess.run([executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "requirements.txt"],
                       check=True, stdout=sys.stderr)
        mark.write_text(wanted)
    return executable


def binary():
    """The program `runloom`: the one that RUNLOOM_BIN names, or the release build."""
    if named := os.environ.get("RUNLOOM_BIN"):
        return pathlib.Path(named).resolve()
    say("building runloom")
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "runloom"], check=True, cwd=ROOT)
    found = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], check=True, cwd=ROOT, capture_output=True)
    return pathlib.Path(json.loads(found.stdout)["target_directory"]) / "release" / "runloom"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Side:
    """A server. What it writes is shown where it does not start."""

    def __init__(self, name, command, port):
        self.name, self.command, self.url = name, command, f"http://127.0.0.1:{port}"

    def __enter__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="runloom-bench-"))
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.home)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self):
        until = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(self.url + "/ok", timeout=5).close()
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    sys.exit(f"{self.name} does not serve ({error}):\n{(self.home / 'log').read_text(errors='replace')[-4000:]}")
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def processor_seconds(self):
        """How much of a processor it has had so far, where the system says so."""
        try:
            after_name = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def runloom(program):
    port = free_port()
    return Side("Runloom", [program, "serve", "--graphs", GRAPHS, "--grpc", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{port}",
                            "--data", "data"], port)


def langgraph(interpreter):
    port = free_port()
    return Side("LangGraph", [interpreter, PEER / "serve.py", GRAPHS, str(port)], port)
