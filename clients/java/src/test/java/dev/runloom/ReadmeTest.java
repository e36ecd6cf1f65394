package dev.runloom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(value = 120, unit = TimeUnit.SECONDS)
class ReadmeTest {
  @Test
  void itsProgramsPrintWhatItSays(@TempDir Path home) throws Exception {
    String readme = Files.readString(TestServer.ROOT.resolve("clients/java/README.md"));
    var blocks = Pattern.compile("(?ms)^```java\n(.*?)^```\n\n^```text\n(.*?)^```$").matcher(readme);
    int programs = 0;
    try (var server = new TestServer(Map.of("approval.yaml", TestServer.example("approval.yaml")))) {
      while (blocks.find()) {
        programs++;
        Path program = home.resolve("Main" + programs + ".java");
        Files.writeString(program, blocks.group(1).replace("localhost:50051", server.address));
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        var process = new ProcessBuilder(java, "-cp", System.getProperty("java.class.path"), program.toString()).redirectErrorStream(true).start();
        assertEquals(blocks.group(2), new String(process.getInputStream().readAllBytes()));
        assertEquals(0, process.waitFor());
      }
    }
    assertTrue(programs > 0 && programs == readme.split("(?m)^```java$").length - 1, "a program without its output");
  }
}
