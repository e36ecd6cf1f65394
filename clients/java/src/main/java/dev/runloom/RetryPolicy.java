package dev.runloom;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/**
 * The number and the delays of retries after temporary failures: UNAVAILABLE, a broken connection, and every error for which the server names a delay, which is
 * waited for. Delays double, with jitter in their upper half.
 *
 * @param maxRetries maximum number of consecutive retries; a stream resets the count with each new part
 * @param initialDelay the first delay
 * @param maxDelay the longest delay, unless the server names a longer one
 */
public record RetryPolicy(int maxRetries, Duration initialDelay, Duration maxDelay) {
  /** 15 retries, more than a minute in all. */
  public static final RetryPolicy DEFAULT = new RetryPolicy(15, Duration.ofMillis(100), Duration.ofSeconds(8));

  /** Waits before the next try. Throws the error if there is none. */
  void await(int failures, RunloomException error) {
    if (failures > maxRetries || !error.isTransient() || Thread.currentThread().isInterrupted()) throw error;
    try {
      Thread.sleep(delay(failures, error.retryDelay()).toMillis());
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw error;
    }
  }

  Duration delay(int failures, Duration asked) {
    double full = Math.min(initialDelay.toNanos() * Math.pow(2, failures - 1), maxDelay.toNanos());
    double delay = full * (0.5 + ThreadLocalRandom.current().nextDouble() / 2);
    // The jitter is added to the server's delay, so that clients still spread.
    if (asked != null) delay = Math.max(asked.toNanos(), delay) + initialDelay.toNanos() * ThreadLocalRandom.current().nextDouble();
    return Duration.ofNanos((long) delay);
  }
}
