/** The stream of a run or a thread, which rejoins when it breaks. */
import { RunloomError } from "./errors.js";
import { StreamRunResponseSchema, type StreamRunResponse } from "./gen/runloom/v1/stream_pb.js";
import { decode } from "./plain.js";
import { waitToRetry, type RetryPolicy } from "./retry.js";
import type { End, Part } from "./types.js";

/** What is needed to open a stream again. */
export interface Position {
  /** The run; empty before the first part. */
  runId: string;
  /** The last cursor. */
  cursor: string;
}

type Open = (position: Position, signal: AbortSignal) => AsyncIterable<StreamRunResponse>;

/**
 * The parts of a run, or of all runs of a thread, in order, each once: `for await (const part of stream)`.
 *
 * If the connection breaks, the server drains, or the stream ends without an `end`, it rejoins at its last cursor, according to the RetryPolicy. An error that
 * cannot be retried is thrown. The stream of a run ends after its `end`. A run that failed is not an error of the stream: see `end.error`. Leaving the loop
 * closes the stream and does not stop the run, unless its `onDisconnect` is `cancel`.
 */
export class RunStream implements AsyncIterable<Part> {
  readonly #open: Open;
  readonly #isThread: boolean;
  readonly #retry: RetryPolicy;
  readonly #signal: AbortSignal | undefined;
  readonly #position: Position;
  /** The highest seq of each run that has not ended. */
  readonly #seen = new Map<string, bigint>();

  constructor(open: Open, start: Position, isThread: boolean, retry: RetryPolicy, signal?: AbortSignal) {
    this.#open = open;
    this.#position = start;
    this.#isThread = isThread;
    this.#retry = retry;
    this.#signal = signal;
  }

  /** The run of the last part; empty before the first one. */
  get runId(): string {
    return this.#position.runId;
  }

  /** The cursor of the last part, to join again later. */
  get cursor(): string {
    return this.#position.cursor;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Part, void, undefined> {
    for (let failures = 0; ; ) {
      const connection = new AbortController();
      const signal = this.#signal ? AbortSignal.any([this.#signal, connection.signal]) : connection.signal;
      let error: Error;
      try {
        let isFirst = true;
        for await (const message of this.#open({ ...this.#position }, signal)) {
          const isNew = this.#accept(message);
          // The first part of a stream does not reset the count of failures: a server may fail right after it each time.
          if (isNew && (message.seq > 0n || !isFirst)) failures = 0;
          isFirst = false;
          if (!isNew) continue;
          yield decode(StreamRunResponseSchema, message) as Part;
          if (message.payload.case === "end" && !this.#isThread) return;
        }
        error = RunloomError.broken("the stream stopped before its end");
      } catch (thrown) {
        error = RunloomError.from(thrown, this.#signal);
      } finally {
        connection.abort();
      }
      failures += 1;
      await waitToRetry(this.#retry, failures, error, this.#signal);
    }
  }

  /** Reads until a run ends, and returns its end. */
  async end(): Promise<End> {
    for await (const { payload } of this) if (payload.case === "end") return payload.value;
    throw RunloomError.broken("the stream has ended already");
  }

  /** Advances to a part. Returns false if it was received before, as is the metadata at the start of a later join. */
  #accept({ runId, seq, cursor, payload }: StreamRunResponse): boolean {
    const last = this.#seen.get(runId);
    if (last !== undefined && (seq === 0n ? payload.case === "metadata" : seq <= last)) return false;
    if (runId) {
      this.#seen.set(runId, seq > (last ?? 0n) ? seq : (last ?? 0n));
      this.#position.runId = runId;
    }
    if (payload.case === "end") this.#seen.delete(runId);
    if (cursor) this.#position.cursor = cursor;
    return true;
  }
}
