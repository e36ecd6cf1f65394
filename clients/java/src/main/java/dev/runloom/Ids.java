package dev.runloom;

import dev.runloom.v1.CreateAssistantRequest;
import dev.runloom.v1.CreateCronRequest;
import dev.runloom.v1.CreateRunRequest;
import dev.runloom.v1.CreateThreadRequest;
import dev.runloom.v1.IfExists;
import dev.runloom.v1.RunSpec;
import dev.runloom.v1.WaitRunRequest;
import java.security.SecureRandom;
import java.util.UUID;

/** Ids that make a creation safe to repeat. Each method reports whether it is. */
final class Ids {
  private static final SecureRandom RANDOM = new SecureRandom();

  private Ids() {}

  /** A UUID of version 7: the time in milliseconds, and random bits. */
  static String create() {
    long high = System.currentTimeMillis() << 16 | 0x7000 | RANDOM.nextInt(1 << 12);
    return new UUID(high, RANDOM.nextLong() & 0x3fffffffffffffffL | 0x8000000000000000L).toString();
  }

  static boolean prepare(CreateThreadRequest.Builder p) {
    if (p.getThreadId().isEmpty()) p.setThreadId(create()).setIfExists(IfExists.IF_EXISTS_RETURN);
    return p.getIfExists() == IfExists.IF_EXISTS_RETURN;
  }

  static boolean prepare(CreateAssistantRequest.Builder p) {
    if (p.getAssistantId().isEmpty()) p.setAssistantId(create()).setIfExists(IfExists.IF_EXISTS_RETURN);
    return p.getIfExists() == IfExists.IF_EXISTS_RETURN;
  }

  static boolean prepare(CreateCronRequest.Builder p) {
    if (p.getCron().getCronId().isEmpty()) p.getCronBuilder().setCronId(create());
    return true;
  }

  static boolean prepare(CreateRunRequest.Builder p) {
    prepare(p.getRunBuilder());
    return true;
  }

  static boolean prepare(WaitRunRequest.Builder p) {
    if (p.hasRun()) prepare(p.getRunBuilder());
    return true;
  }

  static void prepare(RunSpec.Builder p) {
    if (p.getRequestId().isEmpty()) p.setRequestId(create());
  }
}
