package dev.runloom;

import dev.runloom.v1.StreamRunResponse;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.function.Function;

/**
 * The parts of a run, or of all runs of a thread, in order, each once: `for (var part : stream)`.
 *
 * <p>If the connection breaks, the server drains, or the stream ends without an {@link End}, it rejoins at its last cursor, according to the
 * {@link RetryPolicy}. An error that cannot be retried is thrown. The stream of a run ends after its End. A run that failed is not an error of the stream: see
 * {@link End#error()}. Closing the stream does not stop the run, unless its onDisconnect is CANCEL. It can be read once, by one thread.
 */
public final class RunStream implements Iterable<Part>, Iterator<Part>, AutoCloseable {
  private final Function<Position, Iterator<StreamRunResponse>> open;
  private final RetryPolicy retry;
  private final boolean isThread;
  private Position at;
  /** The highest seq of each run that has not ended. */
  private final Map<String, Long> seen = new HashMap<>();
  private Context.CancellableContext connection;
  private Iterator<StreamRunResponse> parts;
  private Part next;
  private int failures;
  private boolean isFirst;
  private boolean isOver;

  /** What is needed to open a stream again. */
  record Position(String runId, String cursor) {}

  RunStream(Position start, boolean isThread, RetryPolicy retry, Function<Position, Iterator<StreamRunResponse>> open) {
    this.at = start;
    this.isThread = isThread;
    this.retry = retry;
    this.open = open;
  }

  /** The run of the last part; empty before the first one. */
  public String runId() {
    return at.runId;
  }

  /** The cursor of the last part, to join again later. */
  public String cursor() {
    return at.cursor;
  }

  @Override
  public Iterator<Part> iterator() {
    return this;
  }

  @Override
  public boolean hasNext() {
    while (next == null && !isOver) {
      try {
        read();
      } catch (StatusRuntimeException broken) {
        disconnect();
        failures++;
        retry.await(failures, RunloomException.from(broken));
      } catch (RunloomException broken) {
        disconnect();
        failures++;
        retry.await(failures, broken);
      }
    }
    return next != null;
  }

  @Override
  public Part next() {
    if (!hasNext()) throw new NoSuchElementException("the stream has ended");
    Part part = next;
    next = null;
    return part;
  }

  /** Reads until a run ends, and returns its end. */
  public End end() {
    while (hasNext()) if (next().payload() instanceof End end) return end;
    throw new NoSuchElementException("the stream has ended already");
  }

  @Override
  public void close() {
    isOver = true;
    next = null;
    disconnect();
  }

  private void read() {
    if (parts == null) {
      connection = Context.current().withCancellation();
      Context before = connection.attach();
      try {
        parts = open.apply(at);
      } finally {
        connection.detach(before);
      }
      isFirst = true;
    }
    if (!parts.hasNext()) throw RunloomException.broken("the stream stopped before its end");
    var message = parts.next();
    boolean isNew = accept(message);
    // The first part of a stream does not reset the count of failures: a server may fail right after it each time.
    if (isNew && (message.getSeq() > 0 || !isFirst)) failures = 0;
    isFirst = false;
    if (!isNew) return;
    next = Part.from(message);
    if (message.hasEnd() && !isThread) {
      isOver = true;
      disconnect();
    }
  }

  private void disconnect() {
    parts = null;
    if (connection != null) connection.cancel(null);
    connection = null;
  }

  /** Advances to a part. Returns false if it was received before, as is the Metadata at the start of a later join. */
  private boolean accept(StreamRunResponse p) {
    Long last = seen.get(p.getRunId());
    if (last != null && (p.getSeq() == 0 ? p.hasMetadata() : p.getSeq() <= last)) return false;
    String run = p.getRunId().isEmpty() ? at.runId : p.getRunId();
    if (!p.getRunId().isEmpty()) seen.put(run, Math.max(p.getSeq(), last == null ? 0 : last));
    if (p.hasEnd()) seen.remove(p.getRunId());
    at = new Position(run, p.getCursor().isEmpty() ? at.cursor : p.getCursor());
    return true;
  }
}
