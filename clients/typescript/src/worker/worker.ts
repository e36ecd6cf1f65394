/** A worker: it executes nodes, tools, routes and reducers of graphs that run in the server. */
import { create } from "@bufbuild/protobuf";
import { hostname } from "node:os";

import { Client } from "../client.js";
import { newId } from "../core.js";
import { JsonEncoding } from "../gen/runloom/v1/json_pb.js";
import { HandlerKind, HandlerSchema, HelloSchema, type Handler, type Hello } from "../gen/runloom/v1/workers_pb.js";
import { transport, type NodeOptions } from "../node.js";
import { jsonOf } from "../plain.js";
import { defaultRetry } from "../retry.js";
import type { JsonValue } from "../types.js";
import { version } from "../version.js";
import { Session, type Run, type Shared } from "./session.js";
import type { Next, TaskContext } from "./task.js";

/** What a worker is. Only the queue is required. */
export interface WorkerOptions extends NodeOptions {
  /** The name that documents have in `worker.queue`. */
  queue: string;
  /** How many tasks it executes at once. Default: 100. */
  maxTasks?: number;
  /** How long it may be silent before the server takes its tasks away, in milliseconds. Default: 10,000. */
  heartbeatTimeout?: number;
  /** How long its tasks may take to end when it is stopped, in milliseconds; then they are cancelled. Default: 30,000. */
  drainTimeout?: number;
  /** The size of the cache of channel values. Default: 128 MiB. 0: no cache. */
  cacheBytes?: number;
  /** Graph documents that it brings, in YAML or JSON. */
  documents?: string[];
  /** How people know it. Default: host and process id. */
  description?: string;
}

/** What describes a handler. */
export interface HandlerOptions {
  /** A description; for a tool, the one that the model is given. */
  description?: string;
  /** The JSON Schema of the input: of a tool's arguments, or of the state of a node. */
  inputSchema?: unknown;
  /** The JSON Schema of the output. */
  outputSchema?: unknown;
}

type State = Record<string, JsonValue>;

/** Add the handlers, then `run`. */
export class Worker {
  /** Its id. */
  readonly id = newId();
  readonly #address: string;
  readonly #options: WorkerOptions;
  readonly #handlers = new Map<string, { description: Handler; run: Run }>();
  readonly #sessions = new Map<string, Session>();

  constructor(address: string, options: WorkerOptions) {
    this.#address = address;
    this.#options = options;
  }

  /** Adds a node. It returns the writes, an object by channel, or a Command. The state must not be changed in place. */
  node<S = State>(name: string, run: (state: S, task: TaskContext) => unknown, options: HandlerOptions = {}): this {
    return this.#add(HandlerKind.NODE, name, (input, task) => run(input as S, task), options);
  }

  /** Adds a tool. It returns the content for the model, a ToolResult, or a Command. */
  tool<A = State>(name: string, run: (args: A, task: TaskContext) => unknown, options: HandlerOptions = {}): this {
    return this.#add(HandlerKind.TOOL, name, (input, task) => run(input as A, task), options);
  }

  /** Adds a route. It returns the next nodes. */
  route<S = State>(name: string, run: (state: S, task: TaskContext) => Next | Next[] | Promise<Next | Next[]>, options: HandlerOptions = {}): this {
    return this.#add(HandlerKind.ROUTE, name, (input, task) => run(input as S, task), options);
  }

  /** Adds a reducer. It combines the present value, if there is one, with the writes of a step. */
  reducer(name: string, run: (present: JsonValue | undefined, writes: JsonValue[]) => unknown, options: HandlerOptions = {}): this {
    return this.#add(HandlerKind.REDUCER, name, (input, _, writes) => run(input, writes), options);
  }

  #add(kind: HandlerKind, name: string, run: Run, { description = "", inputSchema, outputSchema }: HandlerOptions): this {
    const key = `${kind} ${name}`;
    if (!name || this.#handlers.has(key)) throw new TypeError(`handler "${name}": the name is empty or taken`);
    const described = create(HandlerSchema, {
      name, kind, description,
      ...(inputSchema === undefined ? {} : { inputSchema: jsonOf(inputSchema, "inputSchema") }),
      ...(outputSchema === undefined ? {} : { outputSchema: jsonOf(outputSchema, "outputSchema") }),
    });
    this.#handlers.set(key, { description: described, run });
    return this;
  }

  /**
   * Attaches, and executes tasks until the signal is aborted: then it takes no more tasks, and waits for those that it has. It attaches again when the
   * connection breaks. Throws if the server refuses the worker, for example because of its documents.
   */
  async run({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#handlers.size === 0) throw new TypeError("the worker has no handlers");
    const stop = new AbortController();
    const running: Promise<void>[] = [];
    const client = transport(this.#address, this.#options);
    const calls = new Client(client.transport, this.#options);
    const start = (address: string) => {
      if (this.#sessions.has(address) || stop.signal.aborted) return;
      const isFirst = address === this.#address;
      const connection = isFirst ? client : transport(address, this.#options);
      const session = new Session(this.#shared(calls, start), connection.transport, isFirst);
      this.#sessions.set(address, session);
      this.#divide();
      running.push(session.run().catch((error: unknown) => stop.abort(error)).finally(() => {
        this.#sessions.delete(address);
        this.#divide();
        if (!isFirst) connection.close();
      }));
    };
    const drain = () => {
      stop.abort(drained);
    };
    let timer: NodeJS.Timeout | undefined;
    stop.signal.addEventListener("abort", () => {
      for (const session of this.#sessions.values()) session.drain();
      timer = setTimeout(() => {
        for (const session of this.#sessions.values()) session.stop();
      }, this.#options.drainTimeout ?? 30_000);
    });
    signal?.addEventListener("abort", drain, { once: true });
    start(this.#address);
    if (signal?.aborted) drain();
    try {
      // A session can start others.
      for (let i = 0; i < running.length; i++) await running[i];
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", drain);
      client.close();
    }
    if (stop.signal.aborted && stop.signal.reason !== drained) throw stop.signal.reason;
  }

  #shared(calls: Client, learn: (address: string) => void): Shared {
    const { apiKey, retry, cacheBytes = 128 << 20, heartbeatTimeout = 10_000 } = this.#options;
    return {
      learn, cacheBytes, heartbeatTimeout,
      hello: () => this.#hello(heartbeatTimeout, cacheBytes > 0),
      handler: (kind, name) => this.#handlers.get(`${kind} ${name}`)?.run,
      store: (itemToken) => calls.storeOf(itemToken),
      headers: apiKey ? { authorization: `Bearer ${apiKey}` } : {},
      retry: { ...defaultRetry, ...retry },
    };
  }

  #hello(heartbeatTimeout: number, cachesState: boolean): Hello {
    const { queue, documents = [], description = `${hostname()}/node ${process.pid}`, maxTasks = 100 } = this.#options;
    return create(HelloSchema, {
      workerId: this.id, sdk: "typescript", sdkVersion: version, queue, documents, description, maxTasks, cachesState, jsonEncoding: JsonEncoding.TEXT,
      handlers: Array.from(this.#handlers.values(), (handler) => handler.description),
      heartbeatTimeout: { seconds: BigInt(Math.trunc(heartbeatTimeout / 1000)), nanos: Math.round((heartbeatTimeout % 1000) * 1e6) },
    });
  }

  /** Divides the number of tasks among the servers. */
  #divide(): void {
    let [rest, left] = [this.#options.maxTasks ?? 100, this.#sessions.size];
    for (const session of this.#sessions.values()) {
      const part = Math.max(Math.trunc(rest / left), 1);
      [rest, left] = [rest - part, left - 1];
      session.setShare(part);
    }
  }
}

const drained = Symbol("drained");
