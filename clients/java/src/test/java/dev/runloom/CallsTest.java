package dev.runloom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.nio.file.Files;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(value = 60, unit = TimeUnit.SECONDS)
class CallsTest {
  private static TestServer server;
  private static Client client;

  record State(String topic, String status) {}

  @BeforeAll
  static void start() throws Exception {
    server = new TestServer(Map.of("approval.yaml", TestServer.example("approval.yaml")));
    client = Client.connect(server.address);
  }

  @AfterAll
  static void stop() {
    client.close();
    server.close();
  }

  private static Map<?, ?> object(Object json) {
    return (Map<?, ?>) json;
  }

  @Test
  void threadsRunsStateAndHistory() {
    var thread = client.createThread(b -> b.metadata(Map.of("user", "ann", "big", (1L << 62) + 1)));
    assertEquals((1L << 62) + 1, object(thread.metadata()).get("big"));
    String id = thread.threadId();
    var asked = client.waitRun(b -> b.run(r -> r.threadId(id).graphName("approval").input(Map.of("topic", "tea"))));
    assertEquals(RunState.AWAITING_INPUT, asked.end().state());
    var question = asked.interrupts().get(0);
    assertEquals("Publish this?", object(question.value()).get("question"));
    var done = client.waitRun(b -> b.run(r -> r.threadId(id).graphName("approval").command(c -> c.resumeById(Map.of(question.id(), Map.of("approved", true))))));
    assertEquals(new State("tea", "published"), Json.decode(done.values(), State.class));

    var state = client.getState(b -> b.threadId(id));
    assertEquals("published", object(state.checkpoint().values()).get("status"));
    var checkpoints = new ArrayList<Checkpoint>();
    client.listCheckpoints(b -> b.threadId(id).pageSize(2)).forEach(checkpoints::add);
    assertTrue(checkpoints.size() > 3 && checkpoints.get(0).createTime().isBefore(Instant.now()));
    var updated = client.updateState(b -> b.threadId(id).values(Map.of("topic", "milk")).asNode("publish"));
    assertTrue(!updated.checkpointId().isEmpty());
    var runs = new ArrayList<Run>();
    client.listRuns(b -> b.threadId(id).pageSize(1)).forEach(runs::add);
    assertEquals(List.of(RunState.SUCCEEDED, RunState.AWAITING_INPUT), runs.stream().map(Run::state).toList());
    assertTrue(runs.stream().noneMatch(run -> run.requestId().isEmpty()));

    var copy = client.copyThread(b -> b.threadId(id));
    client.updateThread(b -> b.thread(t -> t.threadId(copy.threadId()).metadata(Map.of("user", "bob"))).updateMask(List.of("metadata.user")));
    var read = client.getThread(b -> b.threadId(copy.threadId()).includeValues(true));
    assertEquals("bob", object(read.metadata()).get("user"));
    assertEquals("milk", object(read.values()).get("topic"));
    client.deleteThread(b -> b.threadId(copy.threadId()));
    var error = assertThrows(RunloomException.class, () -> client.getThread(b -> b.threadId(copy.threadId())));
    assertTrue(error.is(Reason.THREAD_NOT_FOUND));
  }

  @Test
  void assistantsCronsItemsAndGraphs() {
    var assistant = client.createAssistant(b -> b.graphName("approval").name("Writer").config(c -> c.configurable(Map.of("tone", "kind"))));
    assertEquals(Map.of("tone", "kind"), assistant.config().configurable());
    var renamed = client.updateAssistant(b -> b.assistant(a -> a.assistantId(assistant.assistantId()).name("Author")).updateMask(List.of("name")));
    assertEquals(2, renamed.version());
    assertEquals(6, client.getAssistantGraph(b -> b.assistantId(assistant.assistantId())).nodes().size());

    var cron = client.createCron(b -> b.cron(c -> c.schedule("0 0 1 1 *").run(r -> r.assistantId(assistant.assistantId()).input(Map.of("topic", "tea")))));
    assertTrue(cron.nextRunTime().isAfter(Instant.now()));
    client.deleteCron(b -> b.cronId(cron.cronId()));

    client.putItem(b -> b.namespace("users", "ann").key("likes").value(Map.of("tea", true)).ttl(Duration.ofHours(1)));
    var item = client.getItem(b -> b.namespace("users", "ann").key("likes"));
    assertEquals(Map.of("tea", true), item.value());
    assertTrue(item.expireTime().isAfter(Instant.now()));
    client.searchItems(b -> b.namespacePrefix("users").filter(Map.of("tea", true))).forEach(found -> assertEquals("likes", found.key()));
    assertNull(client.getItem(b -> b.namespace("users", "ann").key("no")));

    var registered = client.registerGraph(b -> b.document("runloom: v1\nname: small\nstate: { n: {} }\nnodes: { a: { update: { n: '1' } } }\nedges: [ { from: START, to: a } ]\n"));
    assertEquals(GraphSource.REGISTERED, registered.graph().source());
    var names = new ArrayList<String>();
    client.listGraphs(b -> b.pageSize(1)).forEach(graph -> names.add(graph.name()));
    assertEquals(List.of("approval", "small"), names);
  }

  @Test
  void errorsHaveTheirReasons() {
    var unknown = assertThrows(RunloomException.class, () -> client.createRun(b -> b.run(r -> r.graphName("aproval").input(Map.of()))));
    assertTrue(unknown.is(Reason.GRAPH_UNKNOWN) && !unknown.is(Reason.INTERNAL) && !unknown.isTransient());
    assertEquals(Status.Code.NOT_FOUND, unknown.code());
    assertEquals("aproval", unknown.metadata().get("graph"));
    var invalid = assertThrows(RunloomException.class, () -> client.createRun(b -> b.run(r -> r.graphName("approval").input(Map.of("topic", 3)))));
    assertTrue(invalid.is(Reason.INPUT_INVALID) && !invalid.violations().isEmpty());
    // What is wrong is not sent.
    assertThrows(IllegalArgumentException.class, () -> client.createRun(b -> b.run(r -> r.graphName("approval").assistantId("x"))));
    try (var nobody = Client.builder("127.0.0.1:9").retry(new RetryPolicy(2, Duration.ofMillis(1), Duration.ofMillis(1))).build()) {
      var broken = assertThrows(RunloomException.class, () -> nobody.createThread(b -> {}));
      assertTrue(broken.isTransient() && broken.reason() == null);
    }
  }

  @Test
  void jsonIsExactAndKeepsAbsenceApartFromNull() {
    assertEquals(Map.of("n", 9007199254740993L, "f", 1.5, "l", List.of(true)), Json.parse("{\"n\":9007199254740993,\"f\":1.5,\"l\":[true]}"));
    assertEquals("null", Json.to("x", Json.NULL).getJson());
    assertEquals("{\"topic\":\"<tea>\",\"status\":null}", Json.encode(new State("<tea>", null)));
  }

  @Test
  void theVersionIsThatOfTheServer() throws Exception {
    var found = Pattern.compile("(?m)^version = \"(.*)\"$").matcher(Files.readString(TestServer.ROOT.resolve("Cargo.toml")));
    assertTrue(found.find());
    assertEquals(found.group(1), Client.VERSION);
    assertTrue(Files.readString(TestServer.ROOT.resolve("clients/java/pom.xml")).contains("<artifactId>runloom-client</artifactId>\n  <version>" + Client.VERSION));
  }
}
