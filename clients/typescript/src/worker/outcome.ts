/** What a handler returned or threw, as the server is told. */
import { create } from "@bufbuild/protobuf";

import {
  DoneSchema, HandlerKind, InterruptsSchema, NodeUpdateSchema, QuestionSchema, Retryable, RouteSchema, ToolResultSchema, WorkerFailureSchema,
  type Done, type NodeUpdate,
} from "../gen/runloom/v1/workers_pb.js";
import { GotoSchema, type Goto } from "../gen/runloom/v1/run_pb.js";
import { encode, jsonOf } from "../plain.js";
import { Command, Failure, Interrupted, ToolResult, type Next } from "./task.js";

type Outcome = Done["outcome"];

/** The message for an outcome. */
export function done(token: Uint8Array, outcome: Outcome): Done {
  return create(DoneSchema, { token, outcome });
}

/** What a handler of a kind returned. */
export function returned(kind: HandlerKind, result: unknown): Outcome {
  switch (kind) {
    case HandlerKind.NODE:
      return { case: "update", value: updateOf(result) };
    case HandlerKind.TOOL:
      return { case: "toolResult", value: toolResultOf(result) };
    case HandlerKind.ROUTE:
      return { case: "route", value: create(RouteSchema, { goto: gotos(Array.isArray(result) ? (result as Next[]) : [result as Next]) }) };
    default:
      return { case: "value", value: jsonOf(result) };
  }
}

function updateOf(result: unknown): NodeUpdate {
  if (!(result instanceof Command)) return create(NodeUpdateSchema, result === undefined || result === null ? {} : { update: jsonOf(result, "update") });
  const { update, goto, toParent } = result;
  return create(NodeUpdateSchema, { ...(update === undefined ? {} : { update: jsonOf(update, "update") }), goto: gotos(goto), toParent });
}

function toolResultOf(result: unknown) {
  const { content, artifact, isError, command } = result instanceof ToolResult ? result
    : result instanceof Command ? new ToolResult({ command: result })
    : new ToolResult({ content: result });
  return create(ToolResultSchema, {
    isError,
    ...(content === undefined && command ? {} : { content: jsonOf(content, "content") }),
    ...(artifact === undefined ? {} : { artifact: jsonOf(artifact, "artifact") }),
    ...(command ? { command: updateOf(command) } : {}),
  });
}

function gotos(next: readonly Next[]): Goto[] {
  return next.map((to) => encode(GotoSchema, typeof to === "string" ? { node: to } : to) as Goto);
}

/** What a handler threw. */
export function thrown(error: unknown): Outcome {
  if (error instanceof Interrupted) {
    const { responseSchema } = error;
    const question = create(QuestionSchema, {
      index: error.index, value: jsonOf(error.question, "question"),
      ...(responseSchema === undefined ? {} : { responseSchema: jsonOf(responseSchema, "responseSchema") }),
    });
    return { case: "interrupts", value: create(InterruptsSchema, { questions: [question] }) };
  }
  if (error instanceof Failure) {
    const { type, message, details, retryable, retryDelay } = error;
    const failure = {
      type, message, details, retryable: retryable === undefined ? "unspecified" : retryable ? "yes" : "no", ...(retryDelay === undefined ? {} : { retryDelay }),
    };
    return { case: "failure", value: encode(WorkerFailureSchema, failure) as never };
  }
  const { name, message, stack } = error instanceof Error ? error : { name: "Error", message: String(error), stack: "" };
  return { case: "failure", value: create(WorkerFailureSchema, { type: name, message, details: (stack ?? "").slice(0, 32_000) }) };
}

/** The failure of a task whose handler this worker does not have. */
export function unknown(handler: string): Outcome {
  const failure = { type: "HandlerUnknown", message: `the worker has no handler "${handler}"`, retryable: Retryable.NO };
  return { case: "failure", value: create(WorkerFailureSchema, failure) };
}
