package dev.runloom;

import dev.runloom.v1.HandlerKind;
import dev.runloom.v1.Hello;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Executes nodes, tools, routes and reducers of graphs that run in the server. Each task has a thread of its own while it runs. Closing the worker drains it: it
 * takes no more tasks, and waits for those that it has.
 */
public final class Worker implements AutoCloseable {
  /** A function of a worker. */
  @FunctionalInterface
  public interface Handler {
    /**
     * Executes a task. A node returns its writes, a map by channel or null, or a {@link NodeUpdate}; a tool the content for the model, a {@link ToolResult} or a
     * NodeUpdate; a route the name of the next node, a {@link Goto}, or a list of them; a reducer the new value.
     */
    Object run(TaskContext task) throws Exception;
  }

  private record Key(HandlerKind kind, String name) {}

  private record Described(Handler handler, dev.runloom.v1.Handler description) {}

  private final Builder options;
  private final Map<Key, Described> handlers;
  private final String id = Ids.create();
  private final Connection connection;
  private final Client client;
  private final Map<String, Session> sessions = new LinkedHashMap<>();
  private final ExecutorService threads = Executors.newCachedThreadPool(Worker::daemon);
  private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor(Worker::daemon);
  private final CompletableFuture<Void> end = new CompletableFuture<>();
  private boolean isClosing;

  private Worker(Builder options) {
    this.options = options;
    handlers = Map.copyOf(options.handlers);
    if (handlers.isEmpty()) throw new IllegalArgumentException("the worker has no handlers");
    connection = options.connection();
    client = new Client(connection);
  }

  /** Starts a worker of a queue: the name that documents have in `worker.queue`. */
  public static Builder builder(String address, String queue) {
    return new Builder(address, queue);
  }

  /** Builds a {@link Worker}. */
  public static final class Builder extends Connection.Options<Builder> {
    private final String queue;
    private final Map<Key, Described> handlers = new LinkedHashMap<>();
    private final List<String> documents = new ArrayList<>();
    private int maxTasks = 100;
    private Duration heartbeatTimeout = Duration.ofSeconds(10);
    private Duration drainTimeout = Duration.ofSeconds(30);
    private long cacheBytes = 128 << 20;
    private String description = ProcessHandle.current().pid() + "/java";

    private Builder(String address, String queue) {
      super(address);
      this.queue = queue;
    }

    /** Adds a node. */
    public Builder node(String name, Handler handler) {
      return add(HandlerKind.HANDLER_KIND_NODE, name, handler, h -> {});
    }

    /** Adds a node with a description and schemas. */
    public Builder node(String name, Handler handler, Consumer<dev.runloom.Handler.Builder> described) {
      return add(HandlerKind.HANDLER_KIND_NODE, name, handler, described);
    }

    /** Adds a tool, with the description and the input schema that the model is given. */
    public Builder tool(String name, Handler handler, Consumer<dev.runloom.Handler.Builder> described) {
      return add(HandlerKind.HANDLER_KIND_TOOL, name, handler, described);
    }

    /** Adds a route. */
    public Builder route(String name, Handler handler) {
      return add(HandlerKind.HANDLER_KIND_ROUTE, name, handler, h -> {});
    }

    /** Adds a reducer: it combines {@link TaskContext#input()}, null if there is no value yet, with {@link TaskContext#writes()}. */
    public Builder reducer(String name, Handler handler) {
      return add(HandlerKind.HANDLER_KIND_REDUCER, name, handler, h -> {});
    }

    private Builder add(HandlerKind kind, String name, Handler handler, Consumer<dev.runloom.Handler.Builder> described) {
      var description = dev.runloom.Handler.builder();
      described.accept(description);
      var p = description.name(name).build().toProto().toBuilder().setKind(kind).build();
      if (name.isEmpty() || handlers.put(new Key(kind, name), new Described(handler, p)) != null) {
        throw new IllegalArgumentException("handler \"" + name + "\": the name is empty or taken");
      }
      return this;
    }

    /** Adds a graph document that the worker brings, in YAML or JSON. */
    public Builder document(String document) {
      documents.add(document);
      return this;
    }

    /** How many tasks it executes at once. Default: 100. */
    public Builder maxTasks(int tasks) {
      maxTasks = tasks;
      return this;
    }

    /** How long it may be silent before the server takes its tasks away. Default: 10 s. */
    public Builder heartbeatTimeout(Duration timeout) {
      heartbeatTimeout = timeout;
      return this;
    }

    /** How long its tasks may take to end when it is closed; then they are cancelled. Default: 30 s. */
    public Builder drainTimeout(Duration timeout) {
      drainTimeout = timeout;
      return this;
    }

    /** The size of the cache of channel values. Default: 128 MiB. 0: no cache. */
    public Builder cacheBytes(long bytes) {
      cacheBytes = bytes;
      return this;
    }

    /** How people know it. Default: its process id. */
    public Builder description(String text) {
      description = text;
      return this;
    }

    /** Makes the worker and attaches it. */
    public Worker start() {
      var worker = new Worker(this);
      worker.attach(address());
      return worker;
    }
  }

  /** The worker's id. */
  public String id() {
    return id;
  }

  /** Waits until the worker has been closed. Throws if the server refuses it, for example because of its documents. */
  public void await() {
    try {
      end.join();
    } catch (CompletionException error) {
      throw error.getCause() instanceof RunloomException known ? known : error;
    }
  }

  /** Takes no more tasks, and waits for those that it has; after the drain timeout they are cancelled. */
  @Override
  public void close() {
    synchronized (this) {
      isClosing = true;
      sessions.values().forEach(Session::drain);
      if (!timer.isShutdown()) timer.schedule(this::stop, options.drainTimeout.toMillis(), TimeUnit.MILLISECONDS);
    }
    end.exceptionally(error -> null).join();
  }

  private synchronized void stop() {
    sessions.values().forEach(Session::stop);
  }

  /** Attaches to a server, unless it is attached to it. */
  synchronized void attach(String address) {
    if (isClosing || sessions.containsKey(address)) return;
    boolean isFirst = sessions.isEmpty();
    var over = isFirst ? connection : options.connection(address);
    var session = new Session(this, over, isFirst);
    sessions.put(address, session);
    divide();
    threads.execute(() -> {
      try {
        session.run();
        left(address, over, null);
      } catch (RunloomException | InterruptedException error) {
        left(address, over, error);
      }
    });
  }

  private synchronized void left(String address, Connection over, Exception error) {
    sessions.remove(address);
    over.close();
    divide();
    if (error != null && !isClosing) {
      isClosing = true;
      end.completeExceptionally(error);
      sessions.values().forEach(Session::drain);
    }
    if (!sessions.isEmpty()) return;
    end.complete(null);
    timer.shutdownNow();
    threads.shutdown();
  }

  /** Divides the number of tasks among the servers. */
  private void divide() {
    int rest = options.maxTasks, left = sessions.size();
    for (var session : sessions.values()) {
      int part = Math.max(rest / left, 1);
      rest -= part;
      left--;
      session.setShare(part);
    }
  }

  Hello hello() {
    var p = Hello.newBuilder().setWorkerId(id).setSdk("java").setSdkVersion(Client.VERSION).setQueue(options.queue).addAllDocuments(options.documents)
        .setMaxTasks(options.maxTasks).setHeartbeatTimeout(Values.proto(options.heartbeatTimeout)).setCachesState(options.cacheBytes > 0)
        .setJsonEncoding(dev.runloom.v1.JsonEncoding.JSON_ENCODING_TEXT).setDescription(options.description);
    handlers.values().forEach(described -> p.addHandlers(described.description));
    return p.build();
  }

  Handler handler(HandlerKind kind, String name) {
    var found = handlers.get(new Key(kind, name));
    return found == null ? null : found.handler;
  }

  Client client() {
    return client;
  }

  long cacheBytes() {
    return options.cacheBytes;
  }

  Duration heartbeatTimeout() {
    return options.heartbeatTimeout;
  }

  void execute(Runnable task) {
    threads.execute(task);
  }

  ScheduledFuture<?> every(long milliseconds, Runnable task) {
    return timer.scheduleAtFixedRate(task, milliseconds, milliseconds, TimeUnit.MILLISECONDS);
  }

  ScheduledFuture<?> after(long milliseconds, Runnable task) {
    return timer.schedule(task, milliseconds, TimeUnit.MILLISECONDS);
  }

  private static Thread daemon(Runnable task) {
    var thread = new Thread(task, "runloom-worker");
    thread.setDaemon(true);
    return thread;
  }
}
