package dev.runloom;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CancellationException;

/** Says when the outcome of a task is no longer wanted. The thread of its handler is interrupted as well. */
public final class CancellationToken {
  private final List<Runnable> listeners = new ArrayList<>();
  private CancelTaskReason reason;
  private Thread thread;

  CancellationToken() {}

  /** Whether the task was cancelled. */
  public synchronized boolean isCancelled() {
    return reason != null;
  }

  /** Why the task was cancelled; null if it was not. */
  public synchronized CancelTaskReason reason() {
    return reason;
  }

  /** Throws a CancellationException if the task was cancelled. */
  public void throwIfCancelled() {
    var why = reason();
    if (why != null) throw new CancellationException("the task was cancelled: " + why);
  }

  /** Calls a function when the task is cancelled, or at once if it was. */
  public void onCancel(Runnable listener) {
    synchronized (this) {
      if (reason == null) {
        listeners.add(listener);
        return;
      }
    }
    listener.run();
  }

  /** The handler begins in this thread. */
  synchronized void begin() {
    thread = Thread.currentThread();
    if (reason != null) thread.interrupt();
  }

  /** The handler has ended: its thread is no longer interrupted. */
  synchronized void end() {
    thread = null;
    Thread.interrupted();
  }

  void cancel(CancelTaskReason why) {
    List<Runnable> told;
    synchronized (this) {
      if (reason != null) return;
      reason = why;
      if (thread != null) thread.interrupt();
      told = List.copyOf(listeners);
    }
    told.forEach(Runnable::run);
  }
}
