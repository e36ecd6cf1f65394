/** Threads, their state and its history. */
import { newId, present, type CallOptions, type Core } from "./core.js";
import * as threads from "./gen/runloom/v1/threads_pb.js";
import { RunStream } from "./stream.js";
import type { Checkpoint, CheckpointRef, Init, Thread, ThreadState } from "./types.js";

export class Threads {
  readonly #core: Core;
  readonly #methods = threads.Threads.method;
  constructor(core: Core) {
    this.#core = core;
  }

  async create(request: Init<threads.CreateThreadRequest> = {}, options?: CallOptions): Promise<Thread> {
    const named = request.threadId ? request : { ...request, threadId: newId(), ifExists: "return" as const };
    const once = named.ifExists !== "return";
    return present((await this.#core.call(this.#methods.createThread, named, options, { once })).thread, "thread");
  }

  async get(threadId: string, request: { includeValues?: boolean } = {}, options?: CallOptions): Promise<Thread> {
    return present((await this.#core.call(this.#methods.getThread, { threadId, ...request }, options)).thread, "thread");
  }

  /** Replaces the metadata; with an `updateMask` of `metadata.KEY`, only these keys. */
  async update(threadId: string, metadata: unknown, options: CallOptions & { updateMask?: string[] } = {}): Promise<Thread> {
    const request = { thread: { threadId, metadata }, updateMask: options.updateMask ?? ["metadata"] };
    return present((await this.#core.call(this.#methods.updateThread, request, options)).thread, "thread");
  }

  /** Deletes a thread with its runs and checkpoints. */
  async delete(threadId: string, options?: CallOptions): Promise<void> {
    await this.#core.call(this.#methods.deleteThread, { threadId }, options, { once: true });
  }

  list(request: Init<threads.ListThreadsRequest> = {}, options?: CallOptions): AsyncIterable<Thread> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listThreads, { ...request, pageToken }, options);
      return { items: page.threads, nextPageToken: page.nextPageToken };
    });
  }

  async copy(threadId: string, request: { newThreadId?: string } = {}, options?: CallOptions): Promise<Thread> {
    return present((await this.#core.call(this.#methods.copyThread, { threadId, ...request }, options, { once: true })).thread, "thread");
  }

  /** Reads the state: the latest checkpoint, or another one. */
  state(threadId: string, request: Omit<Init<threads.GetStateRequest>, "threadId"> = {}, options?: CallOptions): Promise<ThreadState> {
    return this.#core.call(this.#methods.getState, { ...request, threadId }, options);
  }

  /** Writes to the state, in the name of a node. */
  async updateState(threadId: string, request: Omit<Init<threads.UpdateStateRequest>, "threadId">, options?: CallOptions): Promise<CheckpointRef> {
    const response = await this.#core.call(this.#methods.updateState, { ...request, threadId }, options, { once: true });
    return present(response.checkpoint, "checkpoint");
  }

  /** The checkpoints, newest first. */
  history(threadId: string, request: Omit<Init<threads.ListCheckpointsRequest>, "threadId"> = {}, options?: CallOptions): AsyncIterable<Checkpoint> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listCheckpoints, { ...request, threadId, pageToken }, options);
      return { items: page.checkpoints, nextPageToken: page.nextPageToken };
    });
  }

  /** Streams all runs of the thread, one after the other. It has no end. */
  stream(threadId: string, request: Omit<Init<threads.StreamThreadRequest>, "threadId"> = {}, options: CallOptions = {}): RunStream {
    const all = this.#core.request(threads.StreamThreadRequestSchema, { ...request, threadId });
    const open: ConstructorParameters<typeof RunStream>[0] = ({ cursor }, signal) =>
      this.#core.threads.streamThread({ ...all, cursor }, this.#core.connectOptions(signal));
    return new RunStream(open, { runId: "", cursor: all.cursor }, true, this.#core.retry, options.signal);
  }
}
