package dev.runloom;

import dev.runloom.v1.JsonEncoding;
import dev.runloom.v1.RunsGrpc;
import dev.runloom.v1.StreamRunRequest;
import dev.runloom.v1.ThreadsGrpc;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.util.function.Consumer;

/**
 * A client of a server: a method for each RPC, with its request or a function that builds it. Calls that are safe to repeat are repeated if the server is
 * temporarily unavailable. The client makes an id for each new run, thread, assistant and cron, so that creating them is safe to repeat. It can be used by many
 * threads.
 */
public final class Client extends Methods implements AutoCloseable {
  /** The version of this package: that of the server it was built with. */
  public static final String VERSION = "0.1.0";

  private static final Metadata.Key<String> ITEM_TOKEN = Metadata.Key.of("runloom-item-token", Metadata.ASCII_STRING_MARSHALLER);

  private final Connection connection;
  private final Channel channel;

  private Client(Connection connection, Channel channel) {
    this.connection = connection;
    this.channel = channel;
  }

  Client(Connection connection) {
    this(connection, connection.channel());
  }

  /** Makes a client of the server at `host:port`, `http://host:port` or `https://host:port`. It connects at the first call. */
  public static Client connect(String address) {
    return builder(address).build();
  }

  /** Makes a client with options. */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /** Builds a {@link Client}. */
  public static final class Builder extends Connection.Options<Builder> {
    Builder(String address) {
      super(address);
    }

    public Client build() {
      return new Client(connection());
    }
  }

  @Override
  Channel channel() {
    return channel;
  }

  @Override
  RetryPolicy retry() {
    return connection.retry();
  }

  @Override
  int maxPartBytes() {
    return connection.maxMessageBytes();
  }

  /** The same client, whose item store has the rights of a worker's task. */
  Client withItemToken(String token) {
    if (token.isEmpty()) return this;
    var metadata = new Metadata();
    metadata.put(ITEM_TOKEN, token);
    return new Client(connection, ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(metadata)));
  }

  /** Creates a run and streams it to its end. */
  public RunStream streamRun(RunSpec spec) {
    var run = spec.toProto().toBuilder();
    Ids.prepare(run);
    var request = StreamRunRequest.newBuilder().setRun(run).setJsonEncoding(JsonEncoding.JSON_ENCODING_TEXT).setMaxPartBytes(maxPartBytes()).build();
    return new RunStream(new RunStream.Position("", ""), false, retry(), at -> {
      if (at.runId().isEmpty()) return RunsGrpc.newBlockingStub(channel).streamRun(request);
      var join = JoinRunRequest.builder().runId(at.runId()).cursor(at.cursor()).build();
      return RunsGrpc.newBlockingStub(channel).joinRun(complete(join));
    });
  }

  /** Creates a run and streams it to its end. */
  public RunStream streamRun(Consumer<RunSpec.Builder> spec) {
    var builder = RunSpec.builder();
    spec.accept(builder);
    return streamRun(builder.build());
  }

  /** Streams an existing run to its end, from the request's cursor or from the start of its log. */
  public RunStream joinRun(JoinRunRequest request) {
    var start = new RunStream.Position(request.runId(), request.cursor() == null ? "" : request.cursor());
    var join = complete(request);
    return new RunStream(start, false, retry(), at -> RunsGrpc.newBlockingStub(channel).joinRun(join.toBuilder().setCursor(at.cursor()).build()));
  }

  private dev.runloom.v1.JoinRunRequest complete(JoinRunRequest request) {
    return request.toProto().toBuilder().setJsonEncoding(JsonEncoding.JSON_ENCODING_TEXT).setMaxPartBytes(maxPartBytes()).build();
  }

  /** Streams all runs of a thread, one after the other. It has no end. */
  public RunStream streamThread(StreamThreadRequest request) {
    var start = new RunStream.Position("", request.cursor() == null ? "" : request.cursor());
    var stream = request.toProto().toBuilder().setJsonEncoding(JsonEncoding.JSON_ENCODING_TEXT).setMaxPartBytes(maxPartBytes()).build();
    return new RunStream(start, true, retry(), at ->
        ThreadsGrpc.newBlockingStub(channel).streamThread(stream.toBuilder().setCursor(at.cursor()).build()));
  }

  /** Waits until a worker of a queue is attached, and the graphs that it brings are registered. */
  public void waitForWorker(String queue) throws InterruptedException {
    for (long delay = 5; listWorkers(b -> b.queue(queue).pageSize(1)).workers().isEmpty(); delay = Math.min(2 * delay, 1000)) {
      Thread.sleep(delay);
    }
  }

  /** Closes the connection. Streams end with an error. */
  @Override
  public void close() {
    connection.close();
  }
}
