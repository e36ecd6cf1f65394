"""The generated client, and what the tests say often: JSON, streams checked as they are read, errors with their details."""
import json, pathlib, sys, tempfile, uuid

import grpc
import grpc_tools.protoc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from server import ROOT

# Longer than any call of a test takes, however slow the machine.
TIMEOUT = 120


def generate():
    """Generates the stubs from proto/ and makes them importable."""
    out = tempfile.mkdtemp(prefix="runloom-stubs-")
    protos = sorted(str(p) for p in (ROOT / "proto" / "runloom").rglob("*.proto"))
    well_known = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}", *protos]
    if grpc_tools.protoc.main(arguments):
        raise SystemExit("the stubs cannot be generated")
    sys.path.insert(0, out)


generate()
from runloom.v1 import (  # noqa: E402
    assistants_pb2, assistants_pb2_grpc, error_reason_pb2, event_pb2, graphs_pb2, graphs_pb2_grpc, json_pb2, message_pb2, run_pb2,
    runs_pb2, runs_pb2_grpc, state_pb2, stream_pb2, threads_pb2, threads_pb2_grpc,
)

TEXT = json_pb2.JSON_ENCODING_TEXT
MODES = {name: stream_pb2.StreamMode.Value(f"STREAM_MODE_{name.upper()}")
         for name in ("values", "updates", "messages", "custom", "tasks", "checkpoints", "debug", "events")}


def text(value):
    """Anything as JSON on the wire."""
    return json_pb2.Json(json=json.dumps(value))


def read(message):
    """JSON from the wire, in either encoding."""
    if message.WhichOneof("encoding") == "json":
        return json.loads(message.json)
    assert message.WhichOneof("encoding") == "value", "a Json with nothing set"
    return plain(message.value)


def plain(value):
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {k: plain(v) for k, v in value.struct_value.fields.items()}
    if kind == "list_value":
        return [plain(v) for v in value.list_value.values]
    return None if kind == "null_value" else getattr(value, kind)


def new_id():
    return str(uuid.uuid4())


def spec(graph, given=None, *, modes=(), command=None, **fields):
    """A RunSpec; `given` is the input."""
    made = run_pb2.RunSpec(graph_name=graph, stream_modes=[MODES[m] for m in modes], **fields)
    if given is not None:
        made.input.CopyFrom(text(given))
    if command is not None:
        made.command.CopyFrom(command)
    return made


def kind(part):
    return part.WhichOneof("payload")


def of(parts, *kinds):
    """The payloads of these kinds, in their order."""
    return [getattr(p, kind(p)) for p in parts if kind(p) in kinds]


class Failure:
    """A status with what it says to programs."""

    def __init__(self, error):
        self.code, self.message = error.code(), error.details()
        self.info, self.fields, self.retry = None, {}, None
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            self._take(detail)

    def _take(self, detail):
        for of_type in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            found = of_type()
            if detail.Is(of_type.DESCRIPTOR) and detail.Unpack(found):
                if of_type is error_details_pb2.ErrorInfo:
                    self.info = found
                elif of_type is error_details_pb2.BadRequest:
                    self.fields = {v.field: v.description for v in found.field_violations}
                else:
                    self.retry = found.retry_delay

    @classmethod
    def of_status(cls, status):
        """From an error that came as data."""
        made = cls.__new__(cls)
        made.code, made.message, made.info, made.fields, made.retry = status.code, status.message, None, {}, None
        for detail in status.details:
            made._take(detail)
        return made

    @property
    def reason(self):
        return self.info.reason if self.info else None


class refused:
    """`with refused("THREAD_NOT_FOUND", NOT_FOUND) as failure:` the call in it fails with that reason and code."""

    def __init__(self, reason, code):
        self.reason, self.code = reason, getattr(grpc.StatusCode, code)

    def __enter__(self):
        return self

    def __exit__(self, kind_of, error, _):
        assert kind_of is not None, f"the call went well, and should have been refused with {self.reason}"
        if not isinstance(error, grpc.RpcError):
            return False
        self.failure = Failure(error)
        assert (self.failure.reason, self.failure.code) == (self.reason, self.code), self.failure.message
        assert self.failure.info.domain == "runloom.dev"
        assert hasattr(error_reason_pb2, f"ERROR_REASON_{self.failure.reason}"), "a reason that is not in the list"
        return True

    def __getattr__(self, name):
        return getattr(self.failure, name)


def logged(parts):
    """Those that are in the run's log: without the Metadata that a stream opens with, and without Progress."""
    return [p for p in parts if p.seq]


def check_stream(parts, *, joined=False, whole=True):
    """What holds for every stream of one run: G1, G3. `whole`: nothing is filtered, so that there are no gaps."""
    kinds = [kind(p) for p in parts]
    assert kinds[0] == "metadata", kinds
    assert kinds[-1] == "end" and kinds.count("end") == 1, kinds
    assert all(p.cursor for p in parts), "a part without a cursor"
    assert len({p.run_id for p in parts}) == 1 and parts[0].run_id
    for part in parts[1:]:
        assert (part.seq == 0) == (kind(part) == "progress"), part
    numbers = [p.seq for p in logged(parts)]
    assert numbers == sorted(set(numbers)), "seq does not grow"
    if joined:
        assert parts[0].seq == 0
    elif whole:
        assert numbers[0] == 1
    for before, after in zip(logged(parts), logged(parts)[1:]):
        assert not whole or after.seq == before.seq + 1 or after.attempt > before.attempt, f"a gap after {before.seq}"
    assert all(p.emit_time.seconds for p in parts)


class Api:
    """The services of one server."""

    def __init__(self, address):
        self.address = address
        self.channel = grpc.insecure_channel(address)
        self.threads = threads_pb2_grpc.ThreadsStub(self.channel)
        self.runs = runs_pb2_grpc.RunsStub(self.channel)
        self.assistants = assistants_pb2_grpc.AssistantsStub(self.channel)
        self.graphs = graphs_pb2_grpc.GraphsStub(self.channel)

    def close(self):
        self.channel.close()

    def thread(self, **fields):
        """A new thread's id."""
        return self.threads.CreateThread(threads_pb2.CreateThreadRequest(**fields), timeout=TIMEOUT).thread.thread_id

    def open(self, run, **fields):
        """The stream of a new run, not yet read."""
        fields.setdefault("json_encoding", TEXT)
        return self.runs.StreamRun(runs_pb2.StreamRunRequest(run=run, **fields), timeout=TIMEOUT)

    def stream(self, graph, given=None, *, whole=True, request=None, **fields):
        """All parts of a new run, checked."""
        parts = list(self.open(spec(graph, given, **fields), **(request or {})))
        check_stream(parts, whole=whole)
        return parts

    def open_join(self, run_id, cursor="", modes=(), **fields):
        fields.setdefault("json_encoding", TEXT)
        request = runs_pb2.JoinRunRequest(run_id=run_id, cursor=cursor, stream_modes=[MODES[m] for m in modes], **fields)
        return self.runs.JoinRun(request, timeout=TIMEOUT)

    def join(self, run_id, cursor="", *, whole=True, **fields):
        """All parts from a cursor on, checked."""
        parts = list(self.open_join(run_id, cursor, **fields))
        check_stream(parts, joined=True, whole=whole)
        return parts

    def wait(self, run=None, run_id=None):
        request = runs_pb2.WaitRunRequest(run=run, run_id=run_id, json_encoding=TEXT)
        return self.runs.WaitRun(request, timeout=TIMEOUT)

    def create(self, graph, given=None, **fields):
        request = runs_pb2.CreateRunRequest(run=spec(graph, given, **fields), json_encoding=TEXT)
        return self.runs.CreateRun(request, timeout=TIMEOUT).run

    def run(self, run_id):
        return self.runs.GetRun(runs_pb2.GetRunRequest(run_id=run_id, json_encoding=TEXT), timeout=TIMEOUT).run

    def cancel(self, run_id, mode="INTERRUPT", wait=True):
        request = runs_pb2.CancelRunRequest(run_id=run_id, mode=f"CANCEL_MODE_{mode}", wait=wait, json_encoding=TEXT)
        return self.runs.CancelRun(request, timeout=TIMEOUT).run

    def state(self, thread_id, **fields):
        request = threads_pb2.GetStateRequest(thread_id=thread_id, json_encoding=TEXT, **fields)
        return self.threads.GetState(request, timeout=TIMEOUT).checkpoint

    def history(self, thread_id, **fields):
        fields.setdefault("page_size", 100)
        request = threads_pb2.ListCheckpointsRequest(thread_id=thread_id, include_values=True, json_encoding=TEXT, **fields)
        return self.threads.ListCheckpoints(request, timeout=TIMEOUT).checkpoints

    def update(self, thread_id, values=None, **fields):
        request = threads_pb2.UpdateStateRequest(thread_id=thread_id, **fields)
        if values is not None:
            request.values.CopyFrom(text(values))
        return self.threads.UpdateState(request, timeout=TIMEOUT).checkpoint


def until(stream, wanted):
    """Reads a stream up to the first part that `wanted` is true of. Gives all it read."""
    parts = []
    for part in stream:
        parts.append(part)
        if wanted(part):
            return parts
    raise AssertionError(f"the stream ended without it: {[kind(p) for p in parts]}")
