package dev.runloom;

import java.time.Duration;

/** An error of a handler with a class. Other exceptions are failures of their class's simple name, retried as the node's policy says. */
public final class Failure extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final String type;
  private final Retryable retryable;
  private final Duration retryDelay;

  /** Makes a failure that is retried as the node's policy says. The type is what retry rules match. Example: `TimeoutError`. */
  public Failure(String type, String message) {
    this(type, message, Retryable.UNSPECIFIED, null);
  }

  /** Makes a failure. The delay of the next try can be null: that of the policy. */
  public Failure(String type, String message, Retryable retryable, Duration retryDelay) {
    super(message);
    this.type = type;
    this.retryable = retryable;
    this.retryDelay = retryDelay;
  }

  dev.runloom.v1.WorkerFailure toProto() {
    var p = dev.runloom.v1.WorkerFailure.newBuilder().setType(type).setMessage(getMessage()).setRetryable(retryable.toProto());
    if (retryDelay != null) p.setRetryDelay(Values.proto(retryDelay));
    return p.build();
  }
}
