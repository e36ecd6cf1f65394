package dev.runloom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import dev.runloom.v1.Appended;
import dev.runloom.v1.AttachRequest;
import dev.runloom.v1.AttachResponse;
import dev.runloom.v1.CancelTask;
import dev.runloom.v1.ChannelValue;
import dev.runloom.v1.ChannelValues;
import dev.runloom.v1.Done;
import dev.runloom.v1.Hello;
import dev.runloom.v1.Stored;
import dev.runloom.v1.Unchanged;
import dev.runloom.v1.Welcome;
import dev.runloom.v1.WorkerTask;
import dev.runloom.v1.WorkersGrpc;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.stub.StreamObserver;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The worker against a server that plays the other side of Attach as a test wants it. */
@Timeout(value = 30, unit = TimeUnit.SECONDS)
class WorkerTest {
  private final BlockingQueue<Peer> peers = new LinkedBlockingQueue<>();
  private Server server;
  private Worker worker;

  /** One connection of the worker. */
  private static final class Peer implements StreamObserver<AttachRequest> {
    private final BlockingQueue<AttachRequest> received = new LinkedBlockingQueue<>();
    private final StreamObserver<AttachResponse> responses;
    private int credit;
    private Hello hello;

    Peer(StreamObserver<AttachResponse> responses) {
      this.responses = responses;
    }

    @Override
    public void onNext(AttachRequest message) {
      received.add(message);
    }

    @Override
    public void onError(Throwable error) {
      onCompleted();
    }

    @Override
    public void onCompleted() {
      received.add(AttachRequest.getDefaultInstance());
    }

    AttachRequest next() throws InterruptedException {
      for (; ; ) {
        var message = received.take();
        if (message.hasReady()) credit += message.getReady().getTasks();
        else if (!message.hasHeartbeat() || !message.getHeartbeat().getToken().isEmpty()) return message;
      }
    }

    void ready() throws InterruptedException {
      while (credit == 0) credit += received.take().getReady().getTasks();
    }

    void welcome() throws InterruptedException {
      hello = next().getHello();
      var timeout = com.google.protobuf.Duration.newBuilder().setNanos(300_000_000);
      send(AttachResponse.newBuilder().setWelcome(Welcome.newBuilder().setHeartbeatTimeout(timeout)));
      ready();
    }

    void send(AttachResponse.Builder message) {
      responses.onNext(message.build());
    }

    void task(String name, WorkerTask.Builder task) {
      credit--;
      send(AttachResponse.newBuilder().setTask(task.setToken(ByteString.copyFromUtf8(name)).setTaskId(name).setHandler("node").setKindValue(1)));
    }

    Done done() throws InterruptedException {
      var done = next().getDone();
      send(AttachResponse.newBuilder().setStored(Stored.newBuilder().setToken(done.getToken())));
      return done;
    }
  }

  @BeforeEach
  void start() throws Exception {
    server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create()).addService(new WorkersGrpc.WorkersImplBase() {
      @Override
      public StreamObserver<AttachRequest> attach(StreamObserver<AttachResponse> responses) {
        var peer = new Peer(responses);
        peers.add(peer);
        return peer;
      }
    }).build().start();
  }

  @AfterEach
  void stop() {
    server.shutdownNow();
    if (worker != null) worker.close();
  }

  private Peer attach(Worker.Handler node) throws InterruptedException {
    worker = Worker.builder("127.0.0.1:" + server.getPort(), "test").retry(TestServer.FAST).maxTasks(2).document("document")
        .drainTimeout(java.time.Duration.ofSeconds(1)).node("node", node).start();
    var peer = peers.take();
    peer.welcome();
    return peer;
  }

  private static dev.runloom.v1.Json text(String json) {
    return dev.runloom.v1.Json.newBuilder().setJson(json).build();
  }

  private static ChannelValue.Builder whole(String channel, String version, String json) {
    return ChannelValue.newBuilder().setChannel(channel).setVersion(version).setWhole(text(json));
  }

  private static ChannelValue.Builder appended(String base, String version, int keep, String items) {
    return ChannelValue.newBuilder().setChannel("list").setVersion(version)
        .setAppended(Appended.newBuilder().setBase(base).setKeep(keep).setItems(text(items)));
  }

  private static String updated(Done done) {
    return done.getUpdate().getUpdate().getJson();
  }

  @Test
  void sendsAnOutcomeAgainUntilItIsStored() throws Exception {
    var peer = attach(TaskContext::input);
    assertEquals(List.of("java", Client.VERSION, "test"), List.of(peer.hello.getSdk(), peer.hello.getSdkVersion(), peer.hello.getQueue()));
    assertEquals(List.of("document"), peer.hello.getDocumentsList());
    assertEquals(2, peer.credit);
    peer.task("a", WorkerTask.newBuilder().addState(whole("n", "", "1")));
    assertEquals("{\"n\":1}", updated(peer.next().getDone()));
    peer.responses.onCompleted();
    var again = peers.take();
    again.hello = again.next().getHello();
    again.send(AttachResponse.newBuilder().setWelcome(Welcome.getDefaultInstance()));
    assertEquals("{\"n\":1}", updated(again.done()));
  }

  @Test
  void cachesStateAndAsksForWhatIsMissing() throws Exception {
    var peer = attach(TaskContext::input);
    var unchanged = ChannelValue.newBuilder().setChannel("n").setVersion("w1").setUnchanged(Unchanged.getDefaultInstance());
    peer.task("1", WorkerTask.newBuilder().addState(whole("list", "v1", "[1,2,3]")).addState(whole("n", "w1", "7")));
    assertEquals("{\"list\":[1,2,3],\"n\":7}", updated(peer.done()));
    peer.task("2", WorkerTask.newBuilder().addState(appended("v1", "v2", 2, "[4,5]")).addState(unchanged));
    assertEquals("{\"list\":[1,2,4,5],\"n\":7}", updated(peer.done()));
    peer.task("3", WorkerTask.newBuilder().addState(unchanged).addState(appended("v8", "v9", 1, "[6]")));
    var missing = peer.next().getMissing();
    assertEquals(List.of("list"), missing.getChannelsList());
    peer.send(AttachResponse.newBuilder().setValues(ChannelValues.newBuilder().setToken(missing.getToken()).addValues(whole("list", "v9", "[9]"))));
    assertEquals("{\"n\":7,\"list\":[9]}", updated(peer.done()));
  }

  @Test
  void handlersEmitAskFailAndAreCancelled() throws Exception {
    var cancelled = new CompletableFuture<String>();
    var peer = attach(task -> switch (task.taskId()) {
      case "ask" -> {
        task.emit(Map.of("status", "asking"));
        task.message("model").text("Hm");
        Object answer = task.interrupt("Really?");
        yield NodeUpdate.builder().update(Map.of("answer", answer)).goto_(Goto.builder().node("next").build()).build();
      }
      case "fail" -> throw new Failure("Busy", "busy", Retryable.YES, java.time.Duration.ofSeconds(1));
      case "throw" -> throw new IllegalStateException("broken");
      default -> {
        try {
          new CountDownLatch(1).await();
        } catch (InterruptedException interrupted) {
          cancelled.complete(task.cancellation().reason() + " " + task.cancellation().isCancelled());
        }
        yield null;
      }
    });
    peer.task("ask", WorkerTask.newBuilder());
    assertEquals("{\"status\":\"asking\"}", peer.next().getEmit().getCustom().getJson());
    var chunk = peer.next().getEmit().getChunk().getChunk();
    assertEquals(List.of("Hm", "model", "MESSAGE_ROLE_AI"), List.of(chunk.getContent(0).getText(), chunk.getModel(), chunk.getRole().name()));
    var question = peer.done().getInterrupts().getQuestions(0);
    assertEquals("0 \"Really?\"", question.getIndex() + " " + question.getValue().getJson());
    peer.task("ask", WorkerTask.newBuilder().addAnswers(text("\"yes\"")));
    peer.next();
    peer.next();
    var update = peer.done();
    assertEquals("{\"answer\":\"yes\"} next", updated(update) + " " + update.getUpdate().getGoto(0).getNode());
    peer.task("fail", WorkerTask.newBuilder());
    var failure = peer.done().getFailure();
    assertEquals("Busy RETRYABLE_YES 1", failure.getType() + " " + failure.getRetryable() + " " + failure.getRetryDelay().getSeconds());
    peer.task("throw", WorkerTask.newBuilder());
    failure = peer.done().getFailure();
    assertEquals("IllegalStateException broken", failure.getType() + " " + failure.getMessage());
    assertTrue(failure.getDetails().contains("WorkerTest"));
    peer.task("wait", WorkerTask.newBuilder());
    peer.send(AttachResponse.newBuilder().setCancel(CancelTask.newBuilder().setToken(ByteString.copyFromUtf8("wait")).setReasonValue(1)));
    assertEquals("RUN_CANCELLED true", cancelled.get());
    assertNotNull(peer.done());
  }

  @Test
  void drains() throws Exception {
    var started = new CountDownLatch(1);
    var held = new CountDownLatch(1);
    var peer = attach(task -> {
      started.countDown();
      held.await();
      return null;
    });
    peer.task("a", WorkerTask.newBuilder());
    started.await();
    var closing = CompletableFuture.runAsync(worker::close);
    assertTrue(peer.next().hasDraining());
    held.countDown();
    assertTrue(peer.done().hasUpdate());
    assertEquals(AttachRequest.getDefaultInstance(), peer.next());
    peer.responses.onCompleted();
    closing.get();
  }
}
