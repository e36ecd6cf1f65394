package dev.runloom;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/** A process `runloom serve` on a free port. */
final class TestServer implements AutoCloseable {
  static final Path ROOT = Path.of("").toAbsolutePath().resolve("../..").normalize();
  /** Retries that do not make tests slow. */
  static final RetryPolicy FAST = new RetryPolicy(40, Duration.ofMillis(1), Duration.ofMillis(200));

  final String address;
  private final Path home;
  private final List<String> options;
  private Process process;

  TestServer(Map<String, String> documents, String... options) throws IOException {
    this.options = List.of(options);
    home = Files.createTempDirectory("runloom-java-");
    Files.createDirectory(home.resolve("graphs"));
    for (var document : documents.entrySet()) Files.writeString(home.resolve("graphs").resolve(document.getKey()), document.getValue());
    try (var socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      address = "127.0.0.1:" + socket.getLocalPort();
    }
    start();
  }

  static String example(String name) throws IOException {
    return Files.readString(ROOT.resolve("examples").resolve(name));
  }

  private static Path path(String variable, String otherwise) {
    String value = System.getenv(variable);
    return value != null ? Path.of(value) : ROOT.resolve(otherwise);
  }

  void start() throws IOException {
    var command = new ArrayList<>(List.of(path("RUNLOOM_BIN", "target/debug/runloom").toString(), "serve", "--grpc", address, "--http", "off",
        "--graphs", home.resolve("graphs").toString(), "--data", home.resolve("data").toString()));
    command.addAll(options);
    process = new ProcessBuilder(command)
        .redirectErrorStream(true).redirectOutput(home.resolve("log").toFile()).start();
    if (!options.isEmpty()) return;
    var patient = new RetryPolicy(600, Duration.ofMillis(20), Duration.ofMillis(50));
    try (var client = Client.builder(address).retry(patient).build()) {
      client.listGraphs(b -> {}).iterator().hasNext();
    }
    if (!process.isAlive()) throw new IllegalStateException("the server ended:\n" + Files.readString(home.resolve("log")));
  }

  /** Writes certificates for tests: ca.crt, server.crt, server.key, client.crt, client.key. */
  static void certificates(Path folder) throws Exception {
    int code = new ProcessBuilder(path("RUNLOOM_CUT", "target/tools/bin/runloom-cut").toString(), "certs", folder.toString()).inheritIO().start().waitFor();
    if (code != 0) throw new IllegalStateException("the certificates cannot be written");
  }

  void kill() {
    process.destroyForcibly();
    process.onExit().join();
  }

  @Override
  public void close() {
    kill();
    try (var files = Files.walk(home)) {
      files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** The proxy that cuts connections, a program in Go: it takes the frames of HTTP/2 apart. */
  static final class Cutter implements AutoCloseable {
    private final Process process;
    private final BufferedReader lines;

    Cutter() throws IOException {
      process = new ProcessBuilder(path("RUNLOOM_CUT", "target/tools/bin/runloom-cut").toString()).redirectError(ProcessBuilder.Redirect.INHERIT).start();
      lines = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
    }

    private String ask(String line) throws IOException {
      process.getOutputStream().write((line + "\n").getBytes(StandardCharsets.UTF_8));
      process.getOutputStream().flush();
      return lines.readLine();
    }

    /** The address of a new proxy that cuts its first connection after so many frames. */
    String listen(String server, int frames) throws IOException {
      return ask(server + " " + frames);
    }

    /** Whether it has cut, and the client connected again. */
    boolean hasCut() throws IOException {
      String[] answer = ask("?").split(" ");
      return answer[0].equals("true") && Integer.parseInt(answer[1]) > 1;
    }

    @Override
    public void close() {
      process.destroy();
    }
  }
}
