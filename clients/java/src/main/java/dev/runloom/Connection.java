package dev.runloom;

import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.util.concurrent.TimeUnit;

/** A connection to a server, and what all its calls have in common. */
record Connection(ManagedChannel managed, Channel channel, RetryPolicy retry, int maxMessageBytes) implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  @Override
  public void close() {
    managed.shutdownNow();
  }

  /** Options of clients and workers. */
  public abstract static class Options<B extends Options<B>> {
    private final String address;
    private String apiKey;
    private ChannelCredentials credentials;
    private RetryPolicy retry = RetryPolicy.DEFAULT;
    private int maxMessageBytes = 64 << 20;

    Options(String address) {
      if (address == null || address.isBlank()) throw new IllegalArgumentException("the address of the server is empty; expected host:port");
      this.address = address;
    }

    @SuppressWarnings("unchecked")
    private B self() {
      return (B) this;
    }

    /** Sends a key with each call, as `authorization: Bearer KEY`. Without TLS others on the network can read it. */
    public B apiKey(String key) {
      apiKey = key;
      return self();
    }

    /** Connects with TLS: `TlsChannelCredentials.newBuilder().trustManager(file).build()`. An address that begins with https:// takes the system's roots. */
    public B credentials(ChannelCredentials credentials) {
      this.credentials = credentials;
      return self();
    }

    /** Replaces the retry policy. */
    public B retry(RetryPolicy policy) {
      retry = policy;
      return self();
    }

    /** Limits the size of a message; larger parts of a stream arrive without their data. Default: 64 MiB. */
    public B maxMessageBytes(int bytes) {
      maxMessageBytes = bytes;
      return self();
    }

    String address() {
      return address;
    }

    Connection connection() {
      return connection(address);
    }

    Connection connection(String address) {
      boolean isTls = address.startsWith("https://");
      String target = address.replaceFirst("^https?://", "").replaceFirst("/$", "");
      var security = credentials != null ? credentials : isTls ? TlsChannelCredentials.create() : InsecureChannelCredentials.create();
      var managed = Grpc.newChannelBuilder(target, security)
          .keepAliveTime(30, TimeUnit.SECONDS).keepAliveTimeout(20, TimeUnit.SECONDS).keepAliveWithoutCalls(true)
          .maxInboundMessageSize(maxMessageBytes + (1 << 20)).userAgent("runloom-java/" + Client.VERSION).disableRetry().build();
      if (apiKey == null) return new Connection(managed, managed, retry, maxMessageBytes);
      var metadata = new Metadata();
      metadata.put(AUTHORIZATION, "Bearer " + apiKey);
      var channel = ClientInterceptors.intercept(managed, MetadataUtils.newAttachHeadersInterceptor(metadata));
      return new Connection(managed, channel, retry, maxMessageBytes);
    }
  }
}
