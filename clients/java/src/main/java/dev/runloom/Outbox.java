package dev.runloom;

import dev.runloom.v1.AttachRequest;
import io.grpc.stub.ClientCallStreamObserver;

/** Sends the messages of a worker, in order. Only emits wait for room: an answer to the server must not keep the worker from reading its next message. */
final class Outbox {
  private final ClientCallStreamObserver<AttachRequest> stream;
  private boolean isOver;

  Outbox(ClientCallStreamObserver<AttachRequest> stream) {
    this.stream = stream;
  }

  synchronized void push(AttachRequest.Builder message) {
    if (!isOver) stream.onNext(message.build());
  }

  /** Waits while too much is to be sent. */
  synchronized void pushWhenRoom(AttachRequest.Builder message) throws InterruptedException {
    while (!stream.isReady() && !isOver) wait();
    push(message);
  }

  /** There may be room again. */
  synchronized void ready() {
    notifyAll();
  }

  /** Ends the worker's side. */
  synchronized void close() {
    if (!isOver) stream.onCompleted();
    over();
  }

  /** The connection is over. */
  synchronized void over() {
    isOver = true;
    notifyAll();
  }
}
