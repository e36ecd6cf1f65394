/** The messages of a worker on their way to the server, in order. */
import { create } from "@bufbuild/protobuf";

import { AttachRequestSchema, type AttachRequest } from "../gen/runloom/v1/workers_pb.js";

/** How many messages may wait before a handler that emits should wait. */
const maxQueued = 256;

type Message = Exclude<AttachRequest["message"], { case: undefined }>;

/** A queue that is read by the connection. Only emits wait for room: an answer to the server must not keep the worker from reading its next message. */
export class Outbox implements AsyncIterable<AttachRequest> {
  #queue: Message[] = [];
  #isClosed = false;
  #wake: (() => void) | undefined;
  #room: (() => void)[] = [];

  push(message: Message): void {
    if (this.#isClosed) return;
    this.#queue.push(message);
    this.#wake?.();
  }

  /** Resolves when the next message need not wait. */
  room(): Promise<void> {
    if (this.#queue.length < maxQueued || this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => this.#room.push(resolve));
  }

  /** Ends the worker's side, after what is in the queue. */
  close(): void {
    this.#isClosed = true;
    this.#wake?.();
    this.#release();
  }

  #release(): void {
    const waiting = this.#room;
    this.#room = [];
    for (const resolve of waiting) resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<AttachRequest, void, undefined> {
    for (;;) {
      while (this.#queue.length > 0) {
        const batch = this.#queue;
        this.#queue = [];
        this.#release();
        for (const message of batch) yield create(AttachRequestSchema, { message });
      }
      if (this.#isClosed) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }
}
