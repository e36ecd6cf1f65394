"""A server of its own for tests: started on a free port with a folder for its data, waited for, stopped, killed, started again."""
import os, pathlib, shutil, signal, socket, subprocess, tempfile, threading, time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAPHS = pathlib.Path(__file__).resolve().parent / "graphs"
BINARY = pathlib.Path(os.environ.get("RUNLOOM_BIN") or ROOT / "target" / "debug" / "runloom")
# A server that is not there after this long has failed; one that does not go either.
DEADLINE = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until_serving(process, address, output):
    """Waits until the server of a process says that it serves."""
    until = time.monotonic() + DEADLINE
    while True:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{output()}")
        # A channel of its own each time: one that was refused waits longer and longer before it looks again.
        with grpc.insecure_channel(address) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=0.25)
                watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
                for answer in watch:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        watch.cancel()
                        return
            except (grpc.FutureTimeoutError, grpc.RpcError):
                if time.monotonic() > until:
                    raise AssertionError(f"the server does not serve:\n{output()}") from None


class Server:
    """A process `runloom serve`. What it writes is shown where a test fails."""

    def __init__(self, *options, graphs=None):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="runloom-test-"))
        self.data = self.home / "data"
        self.graphs = pathlib.Path(graphs or self.home / "graphs")
        if not graphs:
            self.graphs.mkdir()
            for document in [*(ROOT / "examples").glob("*.yaml"), *GRAPHS.glob("*.yaml")]:
                shutil.copy(document, self.graphs)
        self.options, self.process, self.lines = options, None, []
        self.address, self.http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self):
        """Starts it, on the same port and data as before, and waits until it says that it serves."""
        data = () if "--data" in self.options else ("--data", self.data)
        command = [BINARY, "serve", "--grpc", self.address, "--graphs", self.graphs, *data, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.home,
                                        env={**os.environ, "RUNLOOM_HTTP": self.http})
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        wait_until_serving(self.process, self.address, self.output)

    def _listen(self, process):
        for line in process.stdout:
            self.lines.append(line)

    def terminate(self):
        """Asks it to end; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """Asks it to end, and waits until it has. Gives its exit code."""
        self.terminate()
        return self.process.wait(DEADLINE)

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def output(self):
        return "".join(self.lines)
