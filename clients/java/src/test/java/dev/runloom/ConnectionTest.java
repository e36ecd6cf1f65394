package dev.runloom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.runloom.v1.ListWorkersRequest;
import dev.runloom.v1.ListWorkersResponse;
import dev.runloom.v1.WorkersGrpc;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.StreamObserver;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(value = 60, unit = TimeUnit.SECONDS)
class ConnectionTest {
  private static String graphs(String address, ChannelCredentials credentials, RetryPolicy retry) {
    try (var client = Client.builder("https://" + address).credentials(credentials).retry(retry).build()) {
      return client.listGraphs(b -> {}).iterator().next().name();
    }
  }

  @Test
  void mutualTls(@TempDir Path folder) throws Exception {
    TestServer.certificates(folder);
    String[] options = {"--tls-cert", folder.resolve("server.crt").toString(), "--tls-key", folder.resolve("server.key").toString(), "--tls-client-ca",
        folder.resolve("ca.crt").toString()};
    try (var server = new TestServer(Map.of("approval.yaml", TestServer.example("approval.yaml")), options)) {
      var authority = folder.resolve("ca.crt").toFile();
      var both = TlsChannelCredentials.newBuilder().trustManager(authority)
          .keyManager(folder.resolve("client.crt").toFile(), folder.resolve("client.key").toFile()).build();
      assertEquals("approval", graphs(server.address, both, TestServer.FAST));
      var never = new RetryPolicy(0, Duration.ofMillis(1), Duration.ofMillis(1));
      var anonymous = TlsChannelCredentials.newBuilder().trustManager(authority).build();
      assertThrows(RunloomException.class, () -> graphs(server.address, anonymous, never));
      assertThrows(RunloomException.class, () -> graphs(server.address, TlsChannelCredentials.create(), never));
    }
  }

  @Test
  void anApiKeyIsSentWithEachCall() throws Exception {
    var sent = new ArrayList<String>();
    var spy = new ServerInterceptor() {
      @Override
      public <Q, R> ServerCall.Listener<Q> interceptCall(ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
        sent.add(headers.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER)));
        return next.startCall(call, headers);
      }
    };
    var server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create()).intercept(spy).addService(new WorkersGrpc.WorkersImplBase() {
      @Override
      public void listWorkers(ListWorkersRequest request, StreamObserver<ListWorkersResponse> response) {
        response.onNext(ListWorkersResponse.getDefaultInstance());
        response.onCompleted();
      }
    }).build().start();
    try (var client = Client.builder("127.0.0.1:" + server.getPort()).apiKey("secret").build()) {
      client.listWorkers(b -> {});
      assertEquals(List.of("Bearer secret"), sent);
    } finally {
      server.shutdownNow();
    }
  }
}
