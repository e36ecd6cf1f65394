package dev.runloom;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** The error of a call, or of a run ({@link End#error()}, {@link Run#error()}). */
public final class RunloomException extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final Status.Code code;
  private final Reason reason;
  private final boolean isFromRunloom;
  private final transient Map<String, String> metadata;
  private final transient List<FieldViolation> violations;
  private final Duration retryDelay;

  /**
   * A missing or invalid field of a request.
   *
   * @param field its path: `run.config.recursion_limit`
   * @param description the error
   */
  public record FieldViolation(String field, String description) {}

  private record Details(Reason reason, boolean isFromRunloom, Map<String, String> metadata, List<FieldViolation> violations, Duration retryDelay) {}

  private RunloomException(Status.Code code, String message, Details details, Throwable cause) {
    super(text(code, message, details), cause);
    this.code = code;
    reason = details.reason;
    isFromRunloom = details.isFromRunloom;
    metadata = details.metadata;
    violations = details.violations;
    retryDelay = details.retryDelay;
  }

  static RunloomException from(Throwable error) {
    if (error instanceof RunloomException known) return known;
    var status = StatusProto.fromThrowable(error);
    var plain = Status.fromThrowable(error);
    String message = plain.getDescription() != null ? plain.getDescription() : String.valueOf(plain.getCause() != null ? plain.getCause() : error);
    return new RunloomException(plain.getCode(), message, details(status == null ? List.of() : status.getDetailsList()), error);
  }

  static RunloomException from(com.google.rpc.Status status) {
    return new RunloomException(Status.fromCodeValue(status.getCode()).getCode(), status.getMessage(), details(status.getDetailsList()), null);
  }

  static RunloomException broken(String message) {
    return new RunloomException(Status.Code.UNAVAILABLE, message, details(List.of()), null);
  }

  private static Details details(List<Any> all) {
    Reason reason = null;
    boolean isFromRunloom = false;
    Map<String, String> metadata = Map.of();
    List<FieldViolation> violations = new ArrayList<>();
    Duration delay = null;
    try {
      for (Any detail : all) {
        if (detail.is(ErrorInfo.class)) {
          var info = detail.unpack(ErrorInfo.class);
          if (!info.getDomain().equals("runloom.dev")) continue;
          isFromRunloom = true;
          reason = reasonOf(info.getReason());
          metadata = Map.copyOf(info.getMetadataMap());
        } else if (detail.is(BadRequest.class)) {
          detail.unpack(BadRequest.class).getFieldViolationsList().forEach(v -> violations.add(new FieldViolation(v.getField(), v.getDescription())));
        } else if (detail.is(RetryInfo.class)) {
          delay = Values.duration(detail.unpack(RetryInfo.class).getRetryDelay());
        }
      }
    } catch (InvalidProtocolBufferException broken) {
      // Details that cannot be read are left out.
      return new Details(reason, isFromRunloom, metadata, List.copyOf(violations), delay);
    }
    return new Details(reason, isFromRunloom, metadata, List.copyOf(violations), delay);
  }

  private static Reason reasonOf(String name) {
    for (Reason reason : Reason.values()) if (reason.name().equals(name)) return reason;
    return null;
  }

  private static String text(Status.Code code, String message, Details details) {
    String fields = details.violations.stream().map(v -> "; " + v.field + ": " + v.description).collect(Collectors.joining());
    return message + " (" + (details.reason != null ? details.reason : code) + ")" + fields;
  }

  /** The gRPC status code. */
  public Status.Code code() {
    return code;
  }

  /** Why it failed; null if the error does not come from Runloom, or this client does not know the reason. */
  public Reason reason() {
    return reason;
  }

  /** Whether it failed for a reason. */
  public boolean is(Reason reason) {
    return this.reason == reason;
  }

  /** The details of the reason. Example: `thread_id`. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /** All missing or invalid fields of the request. */
  public List<FieldViolation> violations() {
    return violations;
  }

  /** The delay that the server names for a retry; null if it names none. */
  public Duration retryDelay() {
    return retryDelay;
  }

  /** The cursor to join again, if the error ended a stream; otherwise null. */
  public String cursor() {
    return metadata.get("cursor");
  }

  /** The oldest cursor of the log, for CURSOR_EXPIRED. */
  public String oldestCursor() {
    return metadata.get("oldest_cursor");
  }

  /** Whether the failure is temporary: the server named a delay, or the connection broke. The call may have had an effect. */
  public boolean isTransient() {
    boolean isBroken = !isFromRunloom && (code == Status.Code.UNKNOWN || code == Status.Code.INTERNAL || code == Status.Code.CANCELLED);
    return isBroken || code == Status.Code.UNAVAILABLE || retryDelay != null;
  }
}
