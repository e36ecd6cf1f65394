"""The server itself: health, reflection, graphs, assistants, an end in good order."""
import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from wire import (
    TEXT, TIMEOUT, assistants_pb2, graphs_pb2, of, read, refused, run_pb2, runs_pb2, runs_pb2_grpc, spec, stream_pb2, text,
)

SERVICES = {"runloom.v1.Runs", "runloom.v1.Threads", "runloom.v1.Assistants", "runloom.v1.Graphs", "runloom.v1.Store", "runloom.v1.Crons"}


def test_health_is_there_for_the_server_and_each_service(api):
    health = health_pb2_grpc.HealthStub(api.channel)
    for service in ("", *SERVICES):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service


def test_health_says_so_when_the_server_drains(own_server, connect):
    api = connect(own_server)
    watch = health_pb2_grpc.HealthStub(api.channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    # A run that goes keeps the server from ending before anybody has looked.
    stream = api.open(spec("slow", {"ms": 2000}, modes=["updates"], thread_id=api.thread()))
    next(stream)
    own_server.terminate()
    seen = []
    try:
        seen.extend(answer.status for answer in watch)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert set(seen) == {health_pb2.HealthCheckResponse.NOT_SERVING}
    assert own_server.process.wait(60) == 0


def test_reflection_describes_every_service(api):
    database = ProtoReflectionDescriptorDatabase(api.channel)
    assert SERVICES <= set(database.get_services())
    pool = DescriptorPool(database)
    runs = pool.FindServiceByName("runloom.v1.Runs")
    method = runs.methods_by_name["StreamRun"]
    assert method.output_type.full_name == "runloom.v1.StreamRunResponse"
    assert {f.name for f in method.output_type.fields} >= {"seq", "cursor", "metadata", "end"}


def test_the_folders_graphs_are_listed(api):
    def listed(**fields):
        return {g.name: g for g in api.graphs.ListGraphs(graphs_pb2.ListGraphsRequest(page_size=1000, **fields), timeout=TIMEOUT).graphs}
    shown = listed()
    assert {"agent", "support_agent", "approval", "joke", "map_reduce"} <= set(shown)
    assert list(shown) == sorted(shown) and "inner" not in shown and "inner" in listed(include_hidden=True)
    joke = shown["joke"]
    assert joke.source == graphs_pb2.GRAPH_SOURCE_FOLDER and joke.revision and joke.default_assistant_id and joke.description


DOCUMENT = """
runloom: v1
name: registered
state: {{ n: {{ schema: {{ type: integer }} }} }}
nodes: {{ set: {{ update: {{ n: '{}' }} }} }}
edges: [ {{ from: START, to: set }} ]
"""


def test_g27_g29_a_graph_is_registered_changed_and_deleted(api):
    def register(document, **fields):
        return api.graphs.RegisterGraph(graphs_pb2.RegisterGraphRequest(document=document, **fields), timeout=TIMEOUT)
    assert not register(DOCUMENT.format(1), validate_only=True).changed
    with refused("GRAPH_UNKNOWN", "NOT_FOUND"):
        list(api.open(spec("registered", {})))
    first = register(DOCUMENT.format(1))
    assert first.changed and not register(DOCUMENT.format(1)).changed
    assert read(api.wait(spec("registered", {})).values) == {"n": 1}
    second = register(DOCUMENT.format(2))
    assert second.changed and second.graph.revision != first.graph.revision
    assert read(api.wait(spec("registered", {})).values) == {"n": 2}
    # The same document is the same revision.
    assert register(DOCUMENT.format(1)).graph.revision == first.graph.revision
    api.graphs.DeleteGraph(graphs_pb2.DeleteGraphRequest(name="registered"), timeout=TIMEOUT)
    with refused("GRAPH_UNKNOWN", "NOT_FOUND"):
        list(api.open(spec("registered", {})))
    with refused("GRAPH_NAME_TAKEN", "ALREADY_EXISTS"):
        register(DOCUMENT.format(1).replace("name: registered", "name: joke"))
    with refused("GRAPH_NOT_REGISTERED", "FAILED_PRECONDITION"):
        api.graphs.DeleteGraph(graphs_pb2.DeleteGraphRequest(name="joke"), timeout=TIMEOUT)


def test_assistants_have_versions(api):
    A = assistants_pb2
    made = api.assistants.CreateAssistant(A.CreateAssistantRequest(graph_name="echo", name="one", context=text({"user": "Ada"}),
                                                                   metadata=text({"team": 1}), json_encoding=TEXT), timeout=TIMEOUT).assistant
    assert (made.version, made.name, read(made.context)) == (1, "one", {"user": "Ada"})
    change = A.UpdateAssistantRequest(assistant=A.Assistant(assistant_id=made.assistant_id, name="two"), json_encoding=TEXT)
    change.update_mask.paths.append("name")
    second = api.assistants.UpdateAssistant(change, timeout=TIMEOUT).assistant
    assert (second.version, second.name, read(second.context)) == (2, "two", {"user": "Ada"})
    versions = api.assistants.ListAssistantVersions(A.ListAssistantVersionsRequest(assistant_id=made.assistant_id), timeout=TIMEOUT).versions
    assert [v.version for v in versions] == [2, 1]
    back = api.assistants.SetLatestAssistantVersion(
        A.SetLatestAssistantVersionRequest(assistant_id=made.assistant_id, version=1), timeout=TIMEOUT).assistant
    assert back.version == 1
    run = run_pb2.RunSpec(assistant_id=made.assistant_id, input=text({"given": 5}))
    assert read(api.wait(run).run.metadata)["team"] == 1
    api.assistants.DeleteAssistant(A.DeleteAssistantRequest(assistant_id=made.assistant_id), timeout=TIMEOUT)
    with refused("ASSISTANT_NOT_FOUND", "NOT_FOUND"):
        list(api.open(run))


def test_a_graph_is_drawn_and_its_schemas_told(api):
    A = assistants_pb2
    listed = api.graphs.ListGraphs(graphs_pb2.ListGraphsRequest(page_size=1000), timeout=TIMEOUT).graphs
    ids = {g.name: g.default_assistant_id for g in listed}
    drawing = api.assistants.GetAssistantGraph(A.GetAssistantGraphRequest(assistant_id=ids["agent"]), timeout=TIMEOUT)
    assert {n.id for n in drawing.nodes} == {"__start__", "agent", "tools", "__end__"}
    assert ("agent", "tools", True) in {(e.source, e.target, e.conditional) for e in drawing.edges}
    assert "agent" in drawing.mermaid
    request = A.GetAssistantSchemasRequest(assistant_id=ids["joke"], json_encoding=TEXT)
    schemas = api.assistants.GetAssistantSchemas(request, timeout=TIMEOUT).schemas
    assert "topic" in read(schemas.input_schema)["properties"] and "joke" in read(schemas.output_schema)["properties"]
    with refused("ASSISTANT_IS_DEFAULT", "FAILED_PRECONDITION"):
        api.assistants.DeleteAssistant(A.DeleteAssistantRequest(assistant_id=ids["joke"]), timeout=TIMEOUT)


def test_compressed_requests_are_taken(server):
    with grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
        request = runs_pb2.StreamRunRequest(run=spec("echo", {"given": "x" * 5000}), json_encoding=TEXT)
        parts = list(runs_pb2_grpc.RunsStub(channel).StreamRun(request, timeout=TIMEOUT))
    assert parts[-1].end.state == stream_pb2.RUN_STATE_SUCCEEDED
    assert read(of(parts, "value")[-1].state)["given"] == "x" * 5000
