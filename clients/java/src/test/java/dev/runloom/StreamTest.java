package dev.runloom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(value = 60, unit = TimeUnit.SECONDS)
class StreamTest {
  private static final String TALK = """
      runloom: v1
      name: talk
      state:
        messages: { reducer: messages }
        log: { reducer: append }
      models:
        bot: { scripted: { responses: [ { content: "one two three" } ] } }
      nodes:
        say: { chat_model: { model: bot } }
        note: { steps: [ { emit: '{"at": "note"}' }, { update: { log: '["noted"]' } } ] }
      edges:
        - { from: START, to: say }
        - { from: say, to: note }
      """;
  private static final String SLOW = """
      runloom: v1
      name: slow
      state: { log: { reducer: append } }
      nodes:
        one: { steps: [ { sleep_ms: '300' }, { update: { log: '["one"]' } } ] }
        two: { steps: [ { sleep_ms: '300' }, { update: { log: '["two"]' } } ] }
      edges:
        - { from: START, to: one }
        - { from: one, to: two }
      """;

  private static TestServer server;
  private static TestServer.Cutter cutter;
  private static Client direct;

  @BeforeAll
  static void start() throws Exception {
    server = new TestServer(Map.of("talk.yaml", TALK, "slow.yaml", SLOW));
    cutter = new TestServer.Cutter();
    direct = Client.builder(server.address).retry(TestServer.FAST).build();
  }

  @AfterAll
  static void stop() {
    direct.close();
    cutter.close();
    server.close();
  }

  private static RunSpec.Builder talk() {
    return RunSpec.builder().graphName("talk").input(Map.of("messages", List.of(Map.of("role", "user", "content", "go"))))
        .streamModes(StreamMode.VALUES, StreamMode.UPDATES, StreamMode.MESSAGES, StreamMode.CUSTOM, StreamMode.TASKS, StreamMode.EVENTS);
  }

  private static Client through(int frames) throws Exception {
    return Client.builder(cutter.listen(server.address, frames)).retry(TestServer.FAST).build();
  }

  /** The kinds of the parts with a number. Fails if one is missing or comes twice. */
  private static List<String> numbered(RunStream stream) {
    var kinds = new ArrayList<String>();
    try (stream) {
      for (Part part : stream) {
        if (part.seq() == 0) {
          assertTrue(!(part.payload() instanceof Metadata) || kinds.isEmpty(), "the stream begins again");
          continue;
        }
        assertEquals(kinds.size() + 1, part.seq());
        kinds.add(part.payload().getClass().getSimpleName());
      }
    }
    return kinds;
  }

  @Test
  void isWholeWhereverTheConnectionIsCut() throws Exception {
    var whole = numbered(direct.streamRun(talk().build()));
    assertTrue(whole.size() > 20 && whole.get(whole.size() - 1).equals("End"), whole.toString());
    int frames = 0;
    for (; ; frames++) {
      try (var client = through(frames)) {
        assertEquals(whole, numbered(client.streamRun(talk().build())), "cut after " + frames + " frames");
      }
      if (!cutter.hasCut()) break;
    }
    assertTrue(frames >= whole.size(), frames + " cuts for " + whole.size() + " parts");
  }

  @Test
  void ofAThreadIsWholeWhereverTheConnectionIsCut() throws Exception {
    var thread = direct.createThread(b -> {});
    for (int frames : new int[] {4, 9, 15, 22, 30, 38}) {
      var last = new HashMap<String, Long>();
      boolean isStarted = false;
      int ends = 0;
      try (var client = through(frames); var stream = client.streamThread(StreamThreadRequest.builder().threadId(thread.threadId()).build())) {
        while (ends < 2) {
          Part part = stream.next();
          if (!isStarted) {
            isStarted = true;
            for (int i = 0; i < 2; i++) direct.createRun(b -> b.run(talk().threadId(thread.threadId()).build()));
          }
          if (part.seq() > 0) assertEquals(last.getOrDefault(part.runId(), 0L) + 1, part.seq(), "cut after " + frames + " frames");
          if (part.seq() > 0) last.put(part.runId(), part.seq());
          if (part.payload() instanceof End) ends++;
        }
      }
    }
  }

  @Test
  void goesOnAfterACrashOfTheServer() throws Exception {
    var updates = new ArrayList<String>();
    Object log = null;
    long last = 0;
    var spec = RunSpec.builder().graphName("slow").input(Map.of()).streamModes(StreamMode.UPDATES, StreamMode.VALUES).durability(Durability.SYNC).build();
    try (var stream = direct.streamRun(spec)) {
      for (Part part : stream) {
        assertTrue(part.seq() == 0 || part.seq() > last);
        last = Math.max(last, part.seq());
        if (part.payload() instanceof Update update) {
          updates.add(update.node());
          if (update.node().equals("one")) {
            server.kill();
            server.start();
          }
        } else if (part.payload() instanceof Value value) {
          log = ((Map<?, ?>) value.state()).get("log");
        } else if (part.payload() instanceof End end) {
          assertEquals(RunState.SUCCEEDED, end.state());
        }
      }
    }
    assertEquals(List.of("one", "two"), updates);
    assertEquals(List.of("one", "two"), log);
  }

  @Test
  void creatingARunIsSafeToRepeatWhereverTheConnectionIsCut() throws Exception {
    for (int frames = 0; frames < 6; frames++) {
      try (var client = through(frames)) {
        var thread = direct.createThread(b -> {});
        var run = client.createRun(b -> b.run(talk().threadId(thread.threadId()).build()));
        var ids = new ArrayList<String>();
        direct.listRuns(b -> b.threadId(thread.threadId())).forEach(other -> ids.add(other.runId()));
        assertEquals(List.of(run.runId()), ids);
      }
    }
  }
}
