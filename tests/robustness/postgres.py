"""A Postgres of its own, which can be stopped as by a crash; and a proxy before it that can be cut."""
import os, pathlib, socket, subprocess, tempfile, threading, time

from server import DEADLINE, free_port


class Postgres:
    """A server in a temporary folder. Postgres does not run as root: there it runs as nobody."""

    def __init__(self, home):
        self.bin = pathlib.Path(os.environ["RUNLOOM_POSTGRES"])
        self.data, self.port = home / "pg", free_port()
        self.data.mkdir()
        home.chmod(0o755)
        self.who = []
        if os.getuid() == 0:
            # Not by `user=`, for which Python forks, which a process with gRPC must not.
            self.who = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            os.chown(self.data, 65534, 65534)
        self.run("initdb", "--pgdata", self.data, "--username", "owner", "--auth", "trust", "--no-sync")
        self.start()

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=300"
        self.run("pg_ctl", "--pgdata", self.data, "--log", self.data / "log", "-w", "-t", DEADLINE, "-o", options, "start")

    def stop(self):
        self.run("pg_ctl", "--pgdata", self.data, "-m", "immediate", "-w", "stop")

    def run(self, program, *arguments):
        # Its output goes to a file: a pipe would be held open by the server that it leaves behind.
        with tempfile.TemporaryFile("w+") as said:
            ran = subprocess.run([*self.who, self.bin / program, *map(str, arguments)], stdout=said, stderr=said, stdin=subprocess.DEVNULL,
                                 cwd=self.data, timeout=DEADLINE)
            said.seek(0)
            assert ran.returncode == 0, said.read()


class Proxy:
    """Forwards connections to a port, until it is cut."""

    def __init__(self, to):
        self.to, self.is_cut, self.open = to, False, set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self.is_cut = True
        for side in list(self.open):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def heal(self):
        self.is_cut = False

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            if self.is_cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                client.close()
                continue
            self.open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for side in (source, sink):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.discard(source)
        source.close()
