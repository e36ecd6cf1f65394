/** What the entry points for Node and for browsers have in common. */
export { Code } from "@connectrpc/connect";

export { Assistants, Client, Crons, Graphs, Store, Workers } from "./client.js";
export type { CallOptions, ClientOptions } from "./core.js";
export { RunloomError, type FieldViolation } from "./errors.js";
export type { RetryPolicy } from "./retry.js";
export { Runs } from "./runs.js";
export { RunStream } from "./stream.js";
export { Threads } from "./threads.js";
export type * from "./types.js";
export { version } from "./version.js";
