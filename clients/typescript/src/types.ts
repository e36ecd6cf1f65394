/** The types that callers see, derived from the generated ones: JSON as values, times as Date, durations as milliseconds, enums as their names. */
import type { RunloomError } from "./errors.js";
import type * as assistants from "./gen/runloom/v1/assistants_pb.js";
import type * as crons from "./gen/runloom/v1/crons_pb.js";
import type * as reasons from "./gen/runloom/v1/error_reason_pb.js";
import type * as events from "./gen/runloom/v1/event_pb.js";
import type * as graphs from "./gen/runloom/v1/graphs_pb.js";
import type * as messages from "./gen/runloom/v1/message_pb.js";
import type * as run from "./gen/runloom/v1/run_pb.js";
import type * as runs from "./gen/runloom/v1/runs_pb.js";
import type * as state from "./gen/runloom/v1/state_pb.js";
import type * as store from "./gen/runloom/v1/store_pb.js";
import type * as stream from "./gen/runloom/v1/stream_pb.js";
import type * as threads from "./gen/runloom/v1/threads_pb.js";
import type * as workers from "./gen/runloom/v1/workers_pb.js";

/** A JSON value. Whole numbers above 2^53 lose digits, as with `JSON.parse`. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** Why a call or a run failed. docs/errors.md says what to do about each. */
export type Reason = keyof typeof reasons.ErrorReason;

type Equals<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

type EnumName<T> = T extends reasons.ErrorReason ? Reason
  : T extends stream.StreamMode ? Lowercase<keyof typeof stream.StreamMode>
  : T extends stream.RunState ? Lowercase<keyof typeof stream.RunState>
  : T extends stream.TaskPhase ? Lowercase<keyof typeof stream.TaskPhase>
  : T extends stream.CancelCause ? Lowercase<keyof typeof stream.CancelCause>
  : T extends stream.CancelMode ? Lowercase<keyof typeof stream.CancelMode>
  : T extends events.EventKind ? Lowercase<keyof typeof events.EventKind>
  : T extends messages.MessageRole ? Lowercase<keyof typeof messages.MessageRole>
  : T extends run.Durability ? Lowercase<keyof typeof run.Durability>
  : T extends run.MultitaskStrategy ? Lowercase<keyof typeof run.MultitaskStrategy>
  : T extends run.OnDisconnect ? Lowercase<keyof typeof run.OnDisconnect>
  : T extends run.IfThreadNotExists ? Lowercase<keyof typeof run.IfThreadNotExists>
  : T extends state.CheckpointSource ? Lowercase<keyof typeof state.CheckpointSource>
  : T extends threads.ThreadStatus ? Lowercase<keyof typeof threads.ThreadStatus>
  : T extends threads.IfExists ? Lowercase<keyof typeof threads.IfExists>
  : T extends crons.OnRunCompleted ? Lowercase<keyof typeof crons.OnRunCompleted>
  : T extends graphs.GraphSource ? Lowercase<keyof typeof graphs.GraphSource>
  : T extends assistants.GraphNodeKind ? Lowercase<keyof typeof assistants.GraphNodeKind>
  : T extends workers.HandlerKind ? Lowercase<keyof typeof workers.HandlerKind>
  : T extends workers.Retryable ? Lowercase<keyof typeof workers.Retryable>
  : T extends workers.CancelTaskReason ? Lowercase<keyof typeof workers.CancelTaskReason>
  : string;

type Name<T, S extends string> = T extends { $typeName: S } ? true : false;
type Meta = "$typeName" | "$unknown";
type Oneof = { case: string | undefined; value?: unknown };

/** A message of a response. A oneof is a union of `{ case, value }`: `switch (part.payload.case)`. */
export type Plain<T> = T extends undefined | string | boolean | Uint8Array ? T
  : T extends bigint ? number
  : T extends number ? (Equals<T, number> extends true ? number : EnumName<T>)
  : Name<T, "runloom.v1.Json"> extends true ? JsonValue
  : Name<T, "google.protobuf.Timestamp"> extends true ? Date
  : Name<T, "google.protobuf.Duration"> extends true ? number
  : Name<T, "google.protobuf.FieldMask"> extends true ? string[]
  : Name<T, "google.rpc.Status"> extends true ? RunloomError
  : T extends (infer Item)[] ? Plain<Item>[]
  : T extends Oneof ? { [K in keyof T]: K extends "case" ? T[K] : Plain<T[K]> }
  : { [K in keyof T as Exclude<K, Meta>]: Plain<T[K]> };

type Set = "jsonEncoding" | "maxPartBytes" | Meta;
type OneofKeys<T> = { [K in keyof T]-?: T[K] extends Oneof ? K : never }[keyof T];
type Member<T> = T extends { case: infer Case extends string; value: infer Value } ? { [K in Case]?: InitField<Value> } : never;
type Intersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I : never;
type Members<T> = [OneofKeys<T>] extends [never] ? unknown : Intersection<Member<T[OneofKeys<T>]>>;

type InitField<T> = T extends undefined | string | boolean | Uint8Array ? T
  : T extends bigint ? number
  : T extends number ? (Equals<T, number> extends true ? number : EnumName<T>)
  : Name<T, "runloom.v1.Json"> extends true ? unknown
  : Name<T, "google.protobuf.Timestamp"> extends true ? Date
  : Name<T, "google.protobuf.Duration"> extends true ? number
  : Name<T, "google.protobuf.FieldMask"> extends true ? string[]
  : Name<T, "google.rpc.Status"> extends true ? never
  : T extends (infer Item)[] ? InitField<Item>[]
  : T extends { $typeName: string } ? Init<T>
  : { [K in keyof T]: InitField<T[K]> };

/** A message of a request. All fields are optional; those of a oneof are fields of the message: `{ graphName: "agent", input }`. */
export type Init<T> = { [K in Exclude<keyof T, OneofKeys<T> | Set>]?: InitField<T[K]> } & Members<T>;

export type StreamMode = EnumName<stream.StreamMode>;
export type RunState = EnumName<stream.RunState>;
export type EventKind = EnumName<events.EventKind>;
export type CancelTaskReason = EnumName<workers.CancelTaskReason>;

export type Part = Plain<stream.StreamRunResponse>;
export type Payload = Part["payload"];
export type Metadata = Plain<stream.Metadata>;
export type Update = Plain<stream.Update>;
export type Value = Plain<stream.Value>;
export type Custom = Plain<stream.Custom>;
export type Task = Plain<stream.Task>;
export type End = Plain<stream.End>;
export type Event = Plain<events.Event>;
export type MessageChunk = Plain<messages.MessageChunk>;
export type Usage = Plain<messages.Usage>;
export type Checkpoint = Plain<state.Checkpoint>;
export type CheckpointRef = Plain<state.CheckpointRef>;
export type Interrupt = Plain<state.Interrupt>;
export type Run = Plain<run.Run>;
export type RunResult = Plain<runs.WaitRunResponse>;
export type Thread = Plain<threads.Thread>;
export type ThreadState = Plain<threads.GetStateResponse>;
export type Assistant = Plain<assistants.Assistant>;
export type AssistantGraph = Plain<assistants.GetAssistantGraphResponse>;
export type AssistantSchemas = Plain<assistants.GetAssistantSchemasResponse>;
export type Cron = Plain<crons.Cron>;
export type Graph = Plain<graphs.Graph>;
export type RegisteredGraph = Plain<graphs.RegisterGraphResponse>;
export type Item = Plain<store.Item>;
export type AttachedWorker = Plain<workers.Worker>;
export type WorkerList = Plain<workers.ListWorkersResponse>;

export type RunSpec = Init<run.RunSpec>;
export type RunCommand = Init<run.Command>;
export type Goto = Init<run.Goto>;
export type ChunkInit = Init<messages.MessageChunk>;
