package dev.runloom;

import dev.runloom.v1.AttachRequest;
import dev.runloom.v1.Emit;
import dev.runloom.v1.WorkerTask;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.function.Supplier;

/** A task as its handler sees it. */
public final class TaskContext {
  private final WorkerTask task;
  private final Map<String, Object> state;
  private final CancellationToken cancellation;
  private final Supplier<Outbox> outbox;
  private final Client client;
  private int questions;

  TaskContext(WorkerTask task, Map<String, Object> state, CancellationToken cancellation, Supplier<Outbox> outbox, Client client) {
    this.task = task;
    this.state = state;
    this.cancellation = cancellation;
    this.outbox = outbox;
    this.client = client;
  }

  /** The id of the task, the same in all tries and attempts: an idempotency key for calls to other services. */
  public String taskId() {
    return task.getTaskId();
  }

  public String runId() {
    return task.getRunId();
  }

  public String threadId() {
    return task.getThreadId();
  }

  public String graphName() {
    return task.getGraphName();
  }

  public String node() {
    return task.getNode();
  }

  public List<String> namespace() {
    return task.getNamespaceList();
  }

  public int step() {
    return task.getStep();
  }

  public int remainingSteps() {
    return task.getRemainingSteps();
  }

  /** The attempt of the run, from 1. */
  public int attempt() {
    return task.getAttempt();
  }

  /** The try of the task over all attempts, from 1. */
  public int tryNumber() {
    return task.getTry();
  }

  /** The run's configuration: a map with `configurable`, `tags`, `metadata`, `recursion_limit`; null if it has none. */
  public Object config() {
    return task.hasConfig() ? Json.from(task.getConfig()) : null;
  }

  /** The run's context; null if it has none. */
  public Object context() {
    return task.hasContext() ? Json.from(task.getContext()) : null;
  }

  /** The details of the last heartbeat of the previous try; null if there are none. */
  public Object heartbeatDetails() {
    return task.hasHeartbeatDetails() ? Json.from(task.getHeartbeatDetails()) : null;
  }

  /** For a tool: the id of the call. */
  public String toolCallId() {
    return task.getToolCall().getId();
  }

  /** For a tool: its name. */
  public String toolName() {
    return task.getToolCall().getName();
  }

  /** Headers of W3C Trace Context. */
  public Map<String, String> traceContext() {
    return task.getTraceContextMap();
  }

  /** Says when the outcome is no longer wanted. The handler's thread is interrupted as well. */
  public CancellationToken cancellation() {
    return cancellation;
  }

  /** The input: the state of a node, the input of a node started by a Goto, the arguments of a tool, the present value of a reducer. It cannot be changed. */
  public Object input() {
    return switch (task.getInputCase()) {
      case SEND_INPUT -> Json.from(task.getSendInput());
      case TOOL_CALL -> Json.from(task.getToolCall().getArgs());
      case REDUCTION -> task.getReduction().hasLeft() ? Json.from(task.getReduction().getLeft()) : null;
      default -> state;
    };
  }

  /** The input, converted to a class of yours, such as a record. */
  public <T> T input(Class<T> type) {
    return Json.decode(input(), type);
  }

  /** For a reducer: the writes of a step. */
  public List<Object> writes() {
    return Values.list(task.getReduction().getWritesList(), Json::from);
  }

  /** The item store, with the rights of the task: putItem, getItem, searchItems of this client. */
  public Client store() {
    return client.withItemToken(task.getItemToken());
  }

  /**
   * Asks a question and returns the answer. Without an answer it throws: the task ends, and is executed again from its start when there is one. Questions are
   * told apart by their order, which must not change between executions.
   */
  public Object interrupt(Object question) {
    return interrupt(question, null);
  }

  /** Asks a question. The server refuses an answer that does not match the JSON Schema; null: any answer. */
  public Object interrupt(Object question, Object responseSchema) {
    int index = questions++;
    if (index < task.getAnswersCount() && task.getAnswers(index).getEncodingCase() != dev.runloom.v1.Json.EncodingCase.ENCODING_NOT_SET) {
      return Json.from(task.getAnswers(index));
    }
    throw new TaskInterrupt(index, question, responseSchema);
  }

  /** Sends custom data to the readers of the run: mode custom. Waits while the connection is full. */
  public void emit(Object data) {
    if (isRead(StreamMode.CUSTOM, StreamMode.EVENTS)) send(Emit.newBuilder().setCustom(Json.to("emit", data)));
  }

  /** Sends a piece of a message: mode messages. */
  public void emit(EmittedChunk chunk) {
    if (isRead(StreamMode.MESSAGES, StreamMode.EVENTS)) send(Emit.newBuilder().setChunk(chunk.toProto()));
  }

  /** Sends something that starts, streams or ends inside the task: mode events. */
  public void emit(EmittedEvent event) {
    if (isRead(StreamMode.EVENTS)) send(Emit.newBuilder().setEvent(event.toProto()));
  }

  /** Sends a part of the stream of a graph that runs inside the task. */
  public void emit(EmittedPart part) {
    send(Emit.newBuilder().setNested(part.toProto()));
  }

  /** Starts a message of a model, which is sent piece by piece. */
  public MessageWriter message(String model) {
    return new MessageWriter(model);
  }

  /** Says that the task is alive. The next try is given the details, unless they are null. */
  public void heartbeat(Object details) {
    var beat = dev.runloom.v1.Heartbeat.newBuilder().setToken(task.getToken());
    if (details != null) beat.setDetails(Json.to("details", details));
    var connection = outbox.get();
    if (connection != null) connection.push(AttachRequest.newBuilder().setHeartbeat(beat));
  }

  private boolean isRead(StreamMode... modes) {
    return task.getEmitModesCount() == 0 || Arrays.stream(modes).anyMatch(mode -> task.getEmitModesList().contains(mode.toProto()));
  }

  private void send(Emit.Builder part) {
    cancellation.throwIfCancelled();
    var connection = outbox.get();
    // Without a connection the server takes the task for lost: what it emits has no reader.
    if (connection == null) return;
    try {
      connection.pushWhenRoom(AttachRequest.newBuilder().setEmit(part.setToken(task.getToken())));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new CancellationException("the task was interrupted while it emitted");
    }
  }

  /** A message of a model that is sent piece by piece. */
  public final class MessageWriter {
    private final String id = Ids.create();
    private final String model;
    private boolean hasStarted;

    private MessageWriter(String model) {
      this.model = model;
    }

    /** The id of the message. */
    public String id() {
      return id;
    }

    /** Sends new text. */
    public void text(String text) {
      write(MessageChunk.builder().content(ContentBlock.builder().text(text).build()));
    }

    /** Ends the message. The usage can be null. */
    public void end(Usage usage) {
      write(MessageChunk.builder().usage(usage).last(true));
    }

    /** Sends a piece. The message's id, role and model are filled in. */
    public void write(MessageChunk.Builder chunk) {
      chunk.messageId(id);
      if (!hasStarted) chunk.role(MessageRole.AI).model(model);
      hasStarted = true;
      emit(EmittedChunk.builder().chunk(chunk.build()).build());
    }
  }
}
