/** A worker's connection to one server, made again when it breaks. */
import { createClient, type Transport } from "@connectrpc/connect";

import { RunloomError } from "../errors.js";
import {
  CancelTaskReason, HandlerKind, Workers, type AttachResponse, type CancelTask, type ChannelValues, type Done, type Hello, type Welcome, type WorkerTask,
} from "../gen/runloom/v1/workers_pb.js";
import { valueOf } from "../plain.js";
import { delayOf, sleep, type RetryPolicy } from "../retry.js";
import type { Store } from "../client.js";
import type { JsonValue } from "../types.js";
import { Cache, missing } from "./cache.js";
import { done, returned, thrown, unknown } from "./outcome.js";
import { Outbox } from "./outbox.js";
import { TaskCancelled, TaskContext } from "./task.js";

/**
 * How many outcomes the worker holds for a new connection. With durability EXIT the server stores them when the run stops; if there are more, the oldest are
 * forgotten, and a server that does not have them executes their tasks again.
 */
const maxUnstored = 10_000;

/** A function of a worker. */
export type Run = (input: JsonValue | undefined, task: TaskContext, writes: JsonValue[]) => unknown;

/** What sessions share. */
export interface Shared {
  hello: () => Hello;
  handler: (kind: HandlerKind, name: string) => Run | undefined;
  store: (itemToken: string) => Store;
  learn: (address: string) => void;
  headers: Record<string, string>;
  retry: RetryPolicy;
  cacheBytes: number;
  heartbeatTimeout: number;
}

interface Execution {
  task: WorkerTask;
  values: Record<string, JsonValue>;
  /** Channels whose values were evicted. */
  missing: Set<string>;
  cancel: AbortController;
}

export class Session {
  readonly #shared: Shared;
  readonly #transport: Transport;
  readonly #isFirst: boolean;
  readonly #cache: Cache;
  readonly #tasks = new Map<string, Execution>();
  /** Outcomes that the server has not stored, in order. */
  readonly #unstored = new Map<string, Done>();
  readonly #stop = new AbortController();
  #outbox: Outbox | undefined;
  #share = 0;
  /** The tasks that the server may still send. */
  #credit = 0;
  #isDraining = false;
  #isDrained = false;

  constructor(shared: Shared, transport: Transport, isFirst: boolean) {
    this.#shared = shared;
    this.#transport = transport;
    this.#isFirst = isFirst;
    this.#cache = new Cache(shared.cacheBytes);
  }

  /** Attaches, again and again, until the worker has drained. Throws if the server refuses the worker. */
  async run(): Promise<void> {
    for (let failures = 1; !this.#isOver(); failures++) {
      const attached = { once: false };
      let error: Error;
      try {
        await this.#attach(attached);
        error = RunloomError.broken("the server ended the worker's connection");
      } catch (thrown) {
        error = RunloomError.from(thrown);
      }
      if (this.#isOver()) return;
      if (attached.once) failures = 1;
      if (!(error instanceof RunloomError && (error.isTransient || error.reason === "WORKER_LOST"))) throw error;
      // A server that has left: its tasks are with others.
      if (!this.#isFirst && failures > this.#shared.retry.maxRetries) return;
      await sleep(delayOf(this.#shared.retry, failures, error.retryDelay), this.#stop.signal).catch(() => {});
    }
  }

  #isOver(): boolean {
    return this.#isDrained || this.#stop.signal.aborted;
  }

  async #attach(attached: { once: boolean }): Promise<void> {
    const outbox = new Outbox();
    outbox.push({ case: "hello", value: this.#shared.hello() });
    const connection = new AbortController();
    const signal = AbortSignal.any([connection.signal, this.#stop.signal]);
    let timer: NodeJS.Timeout | undefined;
    try {
      const options = { signal, headers: this.#shared.headers };
      for await (const { message } of createClient(Workers, this.#transport).attach(outbox, options)) {
        if (message.case === "welcome" && !attached.once) {
          attached.once = true;
          const { heartbeatTimeout } = message.value;
          const silence = heartbeatTimeout ? Number(heartbeatTimeout.seconds) * 1000 + heartbeatTimeout.nanos / 1e6 : this.#shared.heartbeatTimeout;
          timer = setInterval(() => outbox.push({ case: "heartbeat", value: {} as never }), silence / 3);
          this.#connected(outbox);
        }
        this.#receive(message);
      }
    } finally {
      clearInterval(timer);
      outbox.close();
      if (this.#outbox === outbox) this.#outbox = undefined;
      connection.abort();
    }
  }

  /** Sends what the server must know again: outcomes that it has not stored, then credit. */
  #connected(outbox: Outbox): void {
    this.#outbox = outbox;
    this.#credit = 0;
    // Values come only on the connection that they were asked for on.
    for (const [token, execution] of this.#tasks) if (execution.missing.size > 0) this.#tasks.delete(token);
    for (const value of this.#unstored.values()) outbox.push({ case: "done", value });
    if (this.#isDraining) outbox.push({ case: "draining", value: {} as never });
    this.#grant();
  }

  /** How many tasks this server may give the worker at once. */
  setShare(share: number): void {
    this.#share = share;
    this.#grant();
  }

  #grant(): void {
    const more = this.#share - this.#credit - this.#tasks.size;
    if (!this.#outbox || this.#isDraining || more <= 0) return;
    this.#credit += more;
    this.#outbox.push({ case: "ready", value: { tasks: more } as never });
  }

  /** Takes no more tasks. */
  drain(): void {
    this.#isDraining = true;
    this.#outbox?.push({ case: "draining", value: {} as never });
    this.#checkDrained();
  }

  /** Cancels the tasks, and ends. */
  stop(): void {
    for (const { cancel } of this.#tasks.values()) cancel.abort(new TaskCancelled(CancelTaskReason.UNSPECIFIED));
    this.#stop.abort();
  }

  #checkDrained(): void {
    if (!this.#isDraining || this.#tasks.size > 0 || this.#unstored.size > 0) return;
    this.#isDrained = true;
    if (this.#outbox) this.#outbox.close();
    else this.#stop.abort();
  }

  #receive(message: AttachResponse["message"]): void {
    switch (message.case) {
      case "welcome":
        return this.#welcome(message.value);
      case "task":
        return this.#accept(message.value);
      case "cancel":
        return this.#cancel(message.value);
      case "stored":
      case "refused":
        return this.#settle(message.value.token);
      case "values":
        return this.#values(message.value);
    }
  }

  #welcome({ servers }: Welcome): void {
    if (servers.length > 1) for (const address of servers) this.#shared.learn(address);
  }

  #accept(task: WorkerTask): void {
    this.#credit = Math.max(this.#credit - 1, 0);
    for (const { task: other, cancel } of this.#tasks.values()) {
      // The server takes the earlier try for lost.
      if (isSame(task, other)) cancel.abort(new TaskCancelled(CancelTaskReason.FENCED));
    }
    const execution: Execution = { task, values: {}, missing: new Set(), cancel: new AbortController() };
    this.#tasks.set(key(task.token), execution);
    for (const channel of task.state) {
      const value = this.#cache.resolve(channel);
      if (value === missing) execution.missing.add(channel.channel);
      else if (value !== undefined) execution.values[channel.channel] = value;
    }
    if (execution.missing.size === 0) void this.#execute(execution);
    else this.#outbox?.push({ case: "missing", value: { token: task.token, channels: [...execution.missing] } as never });
  }

  #values({ token, values }: ChannelValues): void {
    const execution = this.#tasks.get(key(token));
    if (!execution || execution.missing.size === 0) return;
    for (const channel of values) {
      const value = this.#cache.resolve(channel);
      if (value === missing || value === undefined) continue;
      execution.values[channel.channel] = value;
      execution.missing.delete(channel.channel);
    }
    if (execution.missing.size === 0) void this.#execute(execution);
  }

  #cancel({ token, reason }: CancelTask): void {
    const execution = this.#tasks.get(key(token));
    if (!execution) return;
    execution.cancel.abort(new TaskCancelled(reason));
    if (execution.missing.size > 0) {
      this.#tasks.delete(key(token));
      this.#grant();
      this.#checkDrained();
    }
  }

  /** Forgets an outcome that the server has stored or refused. */
  #settle(token: Uint8Array): void {
    this.#unstored.delete(key(token));
    this.#grant();
    this.#checkDrained();
  }

  async #execute({ task, values, cancel }: Execution): Promise<void> {
    const limit = task.timeLimit ? setTimeout(() => cancel.abort(new TaskCancelled(CancelTaskReason.TIMED_OUT)), milliseconds(task.timeLimit)) : undefined;
    let outcome: Done["outcome"];
    try {
      const run = this.#shared.handler(task.kind, task.handler);
      const host = { outbox: () => this.#outbox, store: this.#shared.store, signal: cancel.signal };
      const [input, writes] = inputOf(task, values);
      outcome = run ? returned(task.kind, await run(input, new TaskContext(task, host), writes)) : unknown(task.handler);
    } catch (error) {
      outcome = thrown(error);
    }
    clearTimeout(limit);
    const value = done(task.token, outcome);
    this.#tasks.delete(key(task.token));
    this.#unstored.set(key(task.token), value);
    for (const oldest of this.#unstored.keys()) {
      if (this.#unstored.size <= maxUnstored) break;
      this.#unstored.delete(oldest);
    }
    this.#outbox?.push({ case: "done", value });
    this.#grant();
  }
}

function inputOf(task: WorkerTask, values: Record<string, JsonValue>): [JsonValue | undefined, JsonValue[]] {
  switch (task.input.case) {
    case "sendInput":
      return [valueOf(task.input.value), []];
    case "toolCall":
      return [valueOf(task.input.value.args) ?? {}, []];
    case "reduction":
      return [valueOf(task.input.value.left), task.input.value.writes.map((write) => valueOf(write) ?? null)];
    default:
      return [values, []];
  }
}

function milliseconds({ seconds, nanos }: { seconds: bigint; nanos: number }): number {
  return Math.min(Number(seconds) * 1000 + nanos / 1e6, 2 ** 31 - 1);
}

function key(token: Uint8Array): string {
  return Buffer.from(token.buffer, token.byteOffset, token.byteLength).toString("latin1");
}

/** Whether two tasks are tries of the same one. */
function isSame(one: WorkerTask, other: WorkerTask): boolean {
  const call = ({ input }: WorkerTask) => (input.case === "toolCall" ? input.value.id : "");
  return one.runId === other.runId && one.taskId === other.taskId && one.kind === other.kind && one.handler === other.handler && call(one) === call(other);
}
