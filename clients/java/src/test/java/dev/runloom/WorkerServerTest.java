package dev.runloom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The worker with a server. */
@Timeout(value = 60, unit = TimeUnit.SECONDS)
class WorkerServerTest {
  private static final String DESK = """
      runloom: v1
      name: desk
      state:
        amount: { schema: { type: number }, default: 10 }
        log: { reducer: append }
        messages: { reducer: messages }
      models:
        bot:
          scripted:
            responses:
              - { content: "Let me look.", tool_calls: [ { name: search, args: { words: tea } } ] }
              - content: "There is tea."
      tools:
        search:
          description: Searches.
          parameters: { type: object, properties: { words: { type: string } }, required: [words] }
          worker: { queue: desk, handler: search }
      nodes:
        look_up: { worker: { queue: desk, handler: look_up } }
        approve: { worker: { queue: desk, handler: approve }, retry: { max_attempts: 2, initial_ms: 1 } }
        agent: { chat_model: { model: bot, tools: [search] } }
        tools: { tools: {} }
      edges:
        - { from: START, to: look_up }
        - { from: look_up, to: approve }
        - { from: approve, to: agent }
        - { from: agent, name: more, route: 'size(state.messages[size(state.messages) - 1].tool_calls) > 0 ? "tools" : "END"', to: [tools, END] }
        - { from: tools, to: agent }
      """;
  private static final String CHAIN = """
      runloom: v1
      name: chain
      state: { log: { reducer: append } }
      nodes:
        one: { worker: { queue: chain, handler: step } }
        two: { worker: { queue: chain, handler: step } }
      edges:
        - { from: START, to: one }
        - { from: one, to: two }
      """;

  private static TestServer server;
  private static Client client;

  private static final Map<String, Object> SCHEMA = Map.of("type", "object", "required", List.of("ok"));

  record Order(double amount) {}

  record Answer(boolean ok) {}

  record Arguments(String words) {}

  @BeforeAll
  static void start() throws Exception {
    server = new TestServer(Map.of("chain.yaml", CHAIN));
    client = Client.connect(server.address);
  }

  @AfterAll
  static void stop() {
    client.close();
    server.close();
  }

  private static End read(RunSpec.Builder spec, List<Object> custom, List<String> messages) {
    spec.graphName("desk").streamModes(StreamMode.CUSTOM, StreamMode.MESSAGES);
    try (var stream = client.streamRun(spec.build())) {
      for (var part : stream) {
        if (part.payload() instanceof Custom data) custom.add(data.payload());
        if (part.payload() instanceof MessageChunk chunk && chunk.node().equals("look_up")) messages.add(chunk.messageId());
        if (part.payload() instanceof End end) return end;
      }
    }
    throw new AssertionError("no end");
  }

  @Test
  void emitsMessagesRetriesQuestionsAndTools() throws Exception {
    var failures = new AtomicInteger();
    var builder = Worker.builder(server.address, "desk").document(DESK).retry(TestServer.FAST)
        .node("look_up", task -> {
          task.emit(Map.of("status", "looking"));
          var message = task.message("desk-model");
          message.text("One ");
          message.text("moment.");
          message.end(null);
          return Map.of("log", List.of("looked up"));
        })
        .node("approve", task -> {
          if (failures.incrementAndGet() == 1) throw new Failure("Busy", "try again", Retryable.YES, null);
          boolean ok = task.input(Order.class).amount() <= 1000 || Json.decode(task.interrupt(Map.of("question", "Approve?"), SCHEMA), Answer.class).ok();
          return NodeUpdate.builder().update(Map.of("log", List.of("approved " + ok))).build();
        })
        .tool("search", task -> {
          String words = task.input(Arguments.class).words();
          task.emit(Map.of("searching", words));
          return "found " + words;
        }, h -> h.description("Searches."));
    try (var worker = builder.start()) {
      client.waitForWorker("desk");
      assertEquals(worker.id(), client.getWorker(b -> b.workerId(worker.id())).workerId());
      String thread = client.createThread(b -> {}).threadId();
      var custom = new ArrayList<Object>();
      var messages = new ArrayList<String>();
      var asked = read(RunSpec.builder().threadId(thread).input(Map.of("amount", 2000)), custom, messages);
      assertEquals(RunState.AWAITING_INPUT, asked.state());
      assertEquals(Map.of("question", "Approve?"), asked.interrupts().get(0).value());
      assertEquals(SCHEMA, asked.interrupts().get(0).responseSchema());
      assertEquals(1, messages.size());
      var end = read(RunSpec.builder().threadId(thread).command(c -> c.resume(Map.of("ok", true))), custom, messages);
      assertEquals(RunState.SUCCEEDED, end.state());
      assertEquals(List.of(Map.of("status", "looking"), Map.of("searching", "tea")), custom);
      var values = (Map<?, ?>) client.getState(b -> b.threadId(thread)).checkpoint().values();
      assertEquals(List.of("looked up", "approved true"), values.get("log"));
      assertEquals("found tea", ((Map<?, ?>) ((List<?>) values.get("messages")).get(1)).get("content"));
    }
  }

  @Test
  void aRunEndsWhereverTheWorkersConnectionIsCut() throws Exception {
    int frames = 0;
    try (var cutter = new TestServer.Cutter()) {
      for (; ; frames++) {
        try (var worker = Worker.builder(cutter.listen(server.address, frames), "chain").retry(TestServer.FAST)
            .node("step", task -> Map.of("log", List.of(task.node()))).start()) {
          var done = client.waitRun(b -> b.run(r -> r.graphName("chain").input(Map.of())));
          assertEquals(Map.of("log", List.of("one", "two")), done.values(), "cut after " + frames + " frames");
        }
        if (!cutter.hasCut()) break;
      }
    }
    assertTrue(frames > 5, "only " + frames + " cuts");
  }

  @Test
  void cancellingARunInterruptsTheThreadOfItsTask() throws Exception {
    var started = new CompletableFuture<String>();
    var cancelled = new CompletableFuture<CancelTaskReason>();
    Worker.Handler waits = task -> {
      started.complete(task.runId());
      try {
        new CountDownLatch(1).await();
      } catch (InterruptedException interrupted) {
        cancelled.complete(task.cancellation().reason());
      }
      return null;
    };
    try (var worker = Worker.builder(server.address, "chain").retry(TestServer.FAST).node("step", waits).start()) {
      client.createRun(b -> b.run(r -> r.graphName("chain").input(Map.of())));
      String run = started.get();
      assertEquals(RunState.CANCELLED, client.cancelRun(b -> b.runId(run).wait_(true)).state());
      assertEquals(CancelTaskReason.RUN_CANCELLED, cancelled.get());
    }
  }
}
