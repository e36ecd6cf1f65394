package dev.runloom;

import com.google.protobuf.ByteString;
import dev.runloom.v1.AttachRequest;
import dev.runloom.v1.AttachResponse;
import dev.runloom.v1.ChannelValues;
import dev.runloom.v1.Done;
import dev.runloom.v1.Draining;
import dev.runloom.v1.Heartbeat;
import dev.runloom.v1.Missing;
import dev.runloom.v1.Ready;
import dev.runloom.v1.WorkerTask;
import dev.runloom.v1.WorkersGrpc;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/** A worker's connection to one server, made again when it breaks. */
final class Session {
  /**
   * How many outcomes the worker holds for a new connection. With durability EXIT the server stores them when the run stops; if there are more, the oldest are
   * forgotten, and a server that does not have them executes their tasks again.
   */
  private static final int MAX_UNSTORED = 10_000;

  private final Worker worker;
  private final Connection connection;
  private final boolean isFirst;
  private final StateCache cache;
  private final Map<ByteString, Execution> tasks = new HashMap<>();
  /** Outcomes that the server has not stored, in order. */
  private final Map<ByteString, Done> unstored = new LinkedHashMap<>();
  /** Completed when nothing is left to do, or the worker is stopped. */
  private final CompletableFuture<Void> over = new CompletableFuture<>();
  private Outbox outbox;
  private ClientCallStreamObserver<AttachRequest> call;
  private int share;
  /** The tasks that the server may still send. */
  private int credit;
  private boolean isDraining;

  private static final class Execution {
    final WorkerTask task;
    final Map<String, Object> values = new LinkedHashMap<>();
    /** Channels whose values were evicted. */
    final Set<String> missing = new HashSet<>();
    final CancellationToken cancellation = new CancellationToken();

    Execution(WorkerTask task) {
      this.task = task;
    }

    /** Whether a task is another try of this one. */
    boolean isTryOf(WorkerTask other) {
      return task.getRunId().equals(other.getRunId()) && task.getTaskId().equals(other.getTaskId()) && task.getKind() == other.getKind()
          && task.getHandler().equals(other.getHandler()) && task.getToolCall().getId().equals(other.getToolCall().getId());
    }
  }

  Session(Worker worker, Connection connection, boolean isFirst) {
    this.worker = worker;
    this.connection = connection;
    this.isFirst = isFirst;
    cache = new StateCache(worker.cacheBytes());
  }

  /** Attaches, again and again, until the worker has drained. Throws if the server refuses the worker. */
  void run() throws InterruptedException {
    for (int failures = 1; !over.isDone(); failures++) {
      var attempt = new Attempt();
      WorkersGrpc.newStub(connection.channel()).attach(attempt);
      RunloomException error = attempt.await();
      if (over.isDone()) return;
      if (attempt.isWelcome) failures = 1;
      if (!error.isTransient() && !error.is(Reason.WORKER_LOST)) throw error;
      // A server that has left: its tasks are with others.
      if (!isFirst && failures > connection.retry().maxRetries()) return;
      try {
        over.get(connection.retry().delay(failures, error.retryDelay()).toMillis(), TimeUnit.MILLISECONDS);
      } catch (java.util.concurrent.TimeoutException again) {
        continue;
      } catch (ExecutionException impossible) {
        throw new IllegalStateException(impossible);
      }
    }
  }

  /** One connection. */
  private final class Attempt implements ClientResponseObserver<AttachRequest, AttachResponse> {
    private final CompletableFuture<RunloomException> end = new CompletableFuture<>();
    private ClientCallStreamObserver<AttachRequest> stream;
    private Outbox mine;
    private ScheduledFuture<?> beat;
    private volatile boolean isWelcome;

    @Override
    public void beforeStart(ClientCallStreamObserver<AttachRequest> stream) {
      this.stream = stream;
      mine = new Outbox(stream);
      stream.setOnReadyHandler(mine::ready);
    }

    RunloomException await() throws InterruptedException {
      synchronized (Session.this) {
        call = stream;
      }
      mine.push(AttachRequest.newBuilder().setHello(worker.hello()));
      try {
        return end.get();
      } catch (ExecutionException impossible) {
        throw new IllegalStateException(impossible);
      } finally {
        mine.over();
        if (beat != null) beat.cancel(false);
        synchronized (Session.this) {
          if (outbox == mine) outbox = null;
        }
      }
    }

    @Override
    public void onNext(AttachResponse message) {
      if (message.hasWelcome() && !isWelcome) {
        isWelcome = true;
        var welcome = message.getWelcome();
        long silence = welcome.hasHeartbeatTimeout() ? Values.duration(welcome.getHeartbeatTimeout()).toMillis() : worker.heartbeatTimeout().toMillis();
        beat = worker.every(Math.max(silence / 3, 1), () -> mine.push(AttachRequest.newBuilder().setHeartbeat(Heartbeat.getDefaultInstance())));
        connected(mine);
      }
      // Without the session's lock, since the worker divides its tasks under a lock of its own.
      if (message.getWelcome().getServersCount() > 1) message.getWelcome().getServersList().forEach(worker::attach);
      receive(message);
    }

    @Override
    public void onError(Throwable error) {
      end.complete(RunloomException.from(error));
    }

    @Override
    public void onCompleted() {
      end.complete(RunloomException.broken("the server ended the worker's connection"));
    }
  }

  /** Sends what the server must know again: outcomes that it has not stored, then credit. */
  private synchronized void connected(Outbox mine) {
    outbox = mine;
    credit = 0;
    // Values come only on the connection that they were asked for on.
    tasks.values().removeIf(execution -> !execution.missing.isEmpty());
    unstored.values().forEach(done -> mine.push(AttachRequest.newBuilder().setDone(done)));
    if (isDraining) mine.push(AttachRequest.newBuilder().setDraining(Draining.getDefaultInstance()));
    grant();
  }

  /** How many tasks this server may give the worker at once. */
  synchronized void setShare(int share) {
    this.share = share;
    grant();
  }

  private void grant() {
    int more = share - credit - tasks.size();
    if (outbox == null || isDraining || more <= 0) return;
    credit += more;
    outbox.push(AttachRequest.newBuilder().setReady(Ready.newBuilder().setTasks(more)));
  }

  /** Takes no more tasks. */
  synchronized void drain() {
    if (isDraining) return;
    isDraining = true;
    if (outbox != null) outbox.push(AttachRequest.newBuilder().setDraining(Draining.getDefaultInstance()));
    checkDrained();
  }

  /** Cancels the tasks, and ends. */
  synchronized void stop() {
    tasks.values().forEach(execution -> execution.cancellation.cancel(CancelTaskReason.UNSPECIFIED));
    over.complete(null);
    if (outbox != null) outbox.over();
    if (call != null) call.cancel("the worker was stopped", null);
  }

  private void checkDrained() {
    if (!isDraining || !tasks.isEmpty() || !unstored.isEmpty()) return;
    over.complete(null);
    if (outbox != null) outbox.close();
    else if (call != null) call.cancel("the worker has drained", null);
  }

  private synchronized void receive(AttachResponse message) {
    switch (message.getMessageCase()) {
      case TASK -> accept(message.getTask());
      case CANCEL -> cancel(message.getCancel().getToken(), CancelTaskReason.from(message.getCancel().getReason()));
      case STORED -> settle(message.getStored().getToken());
      case REFUSED -> settle(message.getRefused().getToken());
      case VALUES -> values(message.getValues());
      default -> { }
    }
  }

  private void accept(WorkerTask task) {
    credit = Math.max(credit - 1, 0);
    for (var other : tasks.values()) {
      // The server takes the earlier try for lost.
      if (other.isTryOf(task)) other.cancellation.cancel(CancelTaskReason.FENCED);
    }
    var execution = new Execution(task);
    tasks.put(task.getToken(), execution);
    for (var channel : task.getStateList()) {
      Object value = cache.resolve(channel);
      if (value == StateCache.MISSING) execution.missing.add(channel.getChannel());
      else execution.values.put(channel.getChannel(), value);
    }
    if (execution.missing.isEmpty()) worker.execute(() -> execute(execution));
    else if (outbox != null) outbox.push(AttachRequest.newBuilder().setMissing(Missing.newBuilder().setToken(task.getToken()).addAllChannels(execution.missing)));
  }

  private void values(ChannelValues values) {
    var execution = tasks.get(values.getToken());
    if (execution == null || execution.missing.isEmpty()) return;
    for (var channel : values.getValuesList()) {
      Object value = cache.resolve(channel);
      if (value == StateCache.MISSING) continue;
      execution.values.put(channel.getChannel(), value);
      execution.missing.remove(channel.getChannel());
    }
    if (execution.missing.isEmpty()) worker.execute(() -> execute(execution));
  }

  private void cancel(ByteString token, CancelTaskReason reason) {
    var execution = tasks.get(token);
    if (execution == null) return;
    execution.cancellation.cancel(reason);
    if (execution.missing.isEmpty()) return;
    tasks.remove(token);
    grant();
    checkDrained();
  }

  /** Forgets an outcome that the server has stored or refused. */
  private void settle(ByteString token) {
    unstored.remove(token);
    grant();
    checkDrained();
  }

  private void execute(Execution execution) {
    var task = execution.task;
    ScheduledFuture<?> limit = task.hasTimeLimit()
        ? worker.after(Values.duration(task.getTimeLimit()).toMillis(), () -> execution.cancellation.cancel(CancelTaskReason.TIMED_OUT)) : null;
    Done.Builder done;
    execution.cancellation.begin();
    try {
      var handler = worker.handler(task.getKind(), task.getHandler());
      var context = new TaskContext(task, java.util.Collections.unmodifiableMap(execution.values), execution.cancellation, this::outbox, worker.client());
      done = handler == null ? Outcome.unknown(task.getHandler()) : Outcome.returned(task.getKind(), handler.run(context));
    } catch (Throwable error) {
      done = Outcome.thrown(error);
    } finally {
      execution.cancellation.end();
      if (limit != null) limit.cancel(false);
    }
    finish(done.setToken(task.getToken()).build());
  }

  private synchronized Outbox outbox() {
    return outbox;
  }

  private synchronized void finish(Done done) {
    tasks.remove(done.getToken());
    unstored.put(done.getToken(), done);
    if (unstored.size() > MAX_UNSTORED) unstored.remove(unstored.keySet().iterator().next());
    if (outbox != null) outbox.push(AttachRequest.newBuilder().setDone(done));
    grant();
  }
}
