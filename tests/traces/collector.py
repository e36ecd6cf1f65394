"""An OpenTelemetry collector in a process of its own, and the spans it has received."""
import pathlib, re, subprocess, threading, time

import rotel

from server import DEADLINE, free_port

AGENT = pathlib.Path(rotel.__file__).resolve().parent / "rotel-agent"
FIELD = re.compile(r"^\s+(Trace ID|Parent ID|ID|Name|Kind|Status code)\s*: ?(.*)$")
ATTRIBUTE = re.compile(r"^\s+-> ([\w.]+): (\w+)\((.*)\)$")


class Collector:
    """Takes spans over OTLP."""

    def __init__(self):
        self.port, self.lines, self.came = free_port(), [], threading.Condition()
        command = [AGENT, "start", "--otlp-grpc-endpoint", f"127.0.0.1:{self.port}", "--otlp-http-endpoint", f"127.0.0.1:{free_port()}",
                   "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        self.until(lambda: any("Starting Rotel" in line for line in self.lines))

    def _listen(self):
        for line in self.process.stdout:
            with self.came:
                self.lines.append(line.rstrip("\n"))
                self.came.notify_all()

    def until(self, holds):
        """Waits until something holds of what has come."""
        until = time.monotonic() + DEADLINE
        with self.came:
            while not (found := holds()):
                assert self.process.poll() is None, "\n".join(self.lines)
                assert self.came.wait(until - time.monotonic()) or holds(), "\n".join(self.lines[-200:])
        return found

    def spans(self):
        """All spans so far, each with its attributes."""
        spans = []
        for line in self.lines:
            if re.match(r"^Span #\d+$", line):
                spans.append({"attributes": {}})
            elif spans and (field := FIELD.match(line)):
                spans[-1].setdefault(field[1], field[2].strip())
            elif spans and (match := ATTRIBUTE.match(line)):
                spans[-1]["attributes"][match[1]] = int(match[3]) if match[2] == "Int" else match[3]
        return spans

    def trace(self, trace, last):
        """The spans of a trace by name, once it has one of the name `last`, which ends after the others."""
        of = lambda: {span["Name"]: span for span in self.spans() if span.get("Trace ID") == trace and "Status code" in span}
        return self.until(lambda: found if last in (found := of()) and "attributes" in found[last] else None)

    def stop(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
