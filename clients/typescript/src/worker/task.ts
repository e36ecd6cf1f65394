/** A task as its handler sees it, and what a handler can return and throw. */
import { create } from "@bufbuild/protobuf";

import { newId } from "../core.js";
import type { Store } from "../client.js";
import { StreamMode } from "../gen/runloom/v1/stream_pb.js";
import {
  CancelTaskReason, EmitSchema, EmittedChunkSchema, EmittedEventSchema, EmittedPartSchema, type Emit, type EmittedEvent, type EmittedPart,
  type WorkerTask,
} from "../gen/runloom/v1/workers_pb.js";
import { encode, jsonOf, valueOf } from "../plain.js";
import type * as types from "../types.js";
import type { ChunkInit, Init, JsonValue, Usage } from "../types.js";
import type { Outbox } from "./outbox.js";

/** Where a graph goes next: the name of a node, or one with an input of its own. */
export type Next = string | { node: string; input?: unknown };

/** What a node returns to say where the graph goes next, beside its writes. */
export class Command {
  readonly update: unknown;
  readonly goto: readonly Next[];
  readonly toParent: boolean;

  constructor({ update, goto = [], toParent = false }: { update?: unknown; goto?: Next | Next[]; toParent?: boolean }) {
    this.update = update;
    this.goto = Array.isArray(goto) ? goto : [goto];
    this.toParent = toParent;
  }
}

/** What a tool returns that is more than content for the model. */
export class ToolResult {
  readonly content: unknown;
  readonly artifact: unknown;
  readonly isError: boolean;
  readonly command: Command | undefined;

  constructor({ content, artifact, isError = false, command }: { content?: unknown; artifact?: unknown; isError?: boolean; command?: Command }) {
    this.content = content;
    this.artifact = artifact;
    this.isError = isError;
    this.command = command;
  }
}

/** An error of a handler with a class. Other errors are failures of their `name`, retried as the node's policy says. */
export class Failure extends Error {
  readonly type: string;
  /** For the server's log and the trace. */
  readonly details: string;
  /** Whether to try again; `undefined`: as the policy says. */
  readonly retryable: boolean | undefined;
  /** The delay of the next try, in milliseconds; `undefined`: that of the policy. */
  readonly retryDelay: number | undefined;

  constructor(type: string, message: string, options: { details?: string; retryable?: boolean; retryDelay?: number } = {}) {
    super(message);
    this.name = type;
    this.type = type;
    this.details = options.details ?? "";
    this.retryable = options.retryable;
    this.retryDelay = options.retryDelay;
  }
}

/** The reason of the signal of a task that is no longer wanted. */
export class TaskCancelled extends Error {
  readonly reason: types.CancelTaskReason;

  constructor(reason: CancelTaskReason) {
    const name = (CancelTaskReason[reason] ?? String(reason)).toLowerCase() as types.CancelTaskReason;
    super(`the task was cancelled: ${name}`);
    this.name = "TaskCancelled";
    this.reason = name;
  }
}

/** Thrown by `task.interrupt` while there is no answer. Let it pass. */
export class Interrupted extends Error {
  readonly index: number;
  readonly question: unknown;
  readonly responseSchema: unknown;

  constructor(index: number, question: unknown, responseSchema?: unknown) {
    super(`the task waits for the answer to: ${JSON.stringify(question)}`);
    this.name = "Interrupted";
    this.index = index;
    this.question = question;
    this.responseSchema = responseSchema;
  }
}

/** What a task needs of its worker. */
export interface Host {
  outbox: () => Outbox | undefined;
  store: (itemToken: string) => Store;
  signal: AbortSignal;
}

/** A task. */
export class TaskContext {
  /** The same in all tries and attempts: an idempotency key for calls to other services. */
  readonly taskId: string;
  readonly runId: string;
  readonly threadId: string;
  readonly graphName: string;
  readonly node: string;
  readonly namespace: readonly string[];
  readonly step: number;
  readonly remainingSteps: number;
  /** The attempt of the run, from 1. */
  readonly attempt: number;
  /** The try of the task over all attempts, from 1. */
  readonly try: number;
  /** The run's configuration: an object with `configurable`, `tags`, `metadata`, `recursion_limit`. */
  readonly config: JsonValue | undefined;
  /** The run's context: an object. */
  readonly context: JsonValue | undefined;
  /** The details of the last heartbeat of the previous try. */
  readonly heartbeatDetails: JsonValue | undefined;
  /** For a tool: the id of the call, and the name of the tool. */
  readonly toolCallId: string | undefined;
  readonly toolName: string | undefined;
  /** Headers of W3C Trace Context. */
  readonly traceContext: Readonly<Record<string, string>>;
  /** Aborted when the outcome is no longer wanted, with a TaskCancelled. */
  readonly signal: AbortSignal;

  readonly #task: WorkerTask;
  readonly #host: Host;
  #questions = 0;

  constructor(task: WorkerTask, host: Host) {
    this.#task = task;
    this.#host = host;
    this.signal = host.signal;
    ({
      taskId: this.taskId, runId: this.runId, threadId: this.threadId, graphName: this.graphName, node: this.node, namespace: this.namespace,
      step: this.step, remainingSteps: this.remainingSteps, attempt: this.attempt, try: this.try, traceContext: this.traceContext,
    } = task);
    this.config = valueOf(task.config);
    this.context = valueOf(task.context);
    this.heartbeatDetails = valueOf(task.heartbeatDetails);
    const call = task.input.case === "toolCall" ? task.input.value : undefined;
    this.toolCallId = call?.id;
    this.toolName = call?.name;
  }

  /** The item store, with the rights of the task. */
  get store(): Store {
    return this.#host.store(this.#task.itemToken);
  }

  /**
   * Asks a question and returns the answer. Without an answer it throws: the task ends, and is executed again from its start when there is one. Questions are
   * told apart by their order, which must not change between executions. The server refuses an answer that does not match `responseSchema`.
   */
  interrupt(question: unknown, { responseSchema }: { responseSchema?: unknown } = {}): JsonValue {
    const index = this.#questions++;
    const answer = valueOf(this.#task.answers[index]);
    if (answer === undefined) throw new Interrupted(index, question, responseSchema);
    return answer;
  }

  /** Sends custom data to the readers of the run: mode custom. Await it when there is much to send. */
  emit(data: unknown): Promise<void> {
    if (!this.#wants(StreamMode.CUSTOM, StreamMode.EVENTS)) return Promise.resolve();
    return this.#emit({ case: "custom", value: jsonOf(data, "emit") });
  }

  /** Sends a piece of a message: mode messages. `message` does so for a message of a model. */
  emitChunk(chunk: ChunkInit, options: { tags?: string[]; runId?: string; namespace?: string[] } = {}): Promise<void> {
    if (!this.#wants(StreamMode.MESSAGES, StreamMode.EVENTS)) return Promise.resolve();
    return this.#emit({ case: "chunk", value: encode(EmittedChunkSchema, { chunk, ...options }) as never });
  }

  /** Sends something that starts, streams or ends inside the task: mode events. */
  emitEvent(event: Init<EmittedEvent>): Promise<void> {
    if (!this.#wants(StreamMode.EVENTS)) return Promise.resolve();
    return this.#emit({ case: "event", value: encode(EmittedEventSchema, event) as never });
  }

  /** Sends a part of the stream of a graph that runs inside the task. */
  emitPart(part: Init<EmittedPart>): Promise<void> {
    return this.#emit({ case: "nested", value: encode(EmittedPartSchema, part) as never });
  }

  /** Starts a message of a model, which is sent piece by piece. */
  message(model: string): MessageWriter {
    return new MessageWriter(this, model);
  }

  /** Says that the task is alive. The next try is given the details, unless they are undefined. */
  heartbeat(details?: unknown): void {
    const value = { token: this.#task.token, ...(details === undefined ? {} : { details: jsonOf(details, "details") }) };
    this.#host.outbox()?.push({ case: "heartbeat", value: value as never });
  }

  #wants(...modes: StreamMode[]): boolean {
    const { emitModes } = this.#task;
    return emitModes.length === 0 || modes.some((mode) => emitModes.includes(mode));
  }

  #emit(part: Emit["part"]): Promise<void> {
    this.signal.throwIfAborted();
    const outbox = this.#host.outbox();
    // Without a connection the server takes the task for lost: what it emits has no reader.
    outbox?.push({ case: "emit", value: create(EmitSchema, { token: this.#task.token, part }) });
    return outbox?.room() ?? Promise.resolve();
  }
}

/** A message of a model that is sent piece by piece. */
export class MessageWriter {
  /** The id of the message. */
  readonly id = newId();
  readonly #task: TaskContext;
  readonly #model: string;
  #hasStarted = false;

  constructor(task: TaskContext, model: string) {
    this.#task = task;
    this.#model = model;
  }

  /** Sends new text. */
  text(text: string): Promise<void> {
    return this.write({ content: [{ text }] });
  }

  /** Ends the message. */
  end(usage?: Partial<Usage>): Promise<void> {
    return this.write({ last: true, ...(usage ? { usage } : {}) });
  }

  /** Sends a piece. The message's id, role and model are filled in. */
  write(chunk: ChunkInit): Promise<void> {
    const first = this.#hasStarted ? {} : { role: "ai" as const, model: this.#model };
    this.#hasStarted = true;
    return this.#task.emitChunk({ ...chunk, ...first, messageId: this.id });
  }
}
