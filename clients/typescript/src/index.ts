/** The client and the worker for Node, over gRPC. */
import { Client } from "./client.js";
import { transport, type NodeOptions } from "./node.js";

export type { NodeOptions } from "./node.js";
export * from "./shared.js";

/** Makes a client of the server at `host:port`, `http://host:port` or `https://host:port`. It connects at the first call. */
export function connect(address: string, options: NodeOptions = {}): Client {
  const { transport: over, close } = transport(address, options);
  return new Client(over, options, close);
}

export { Command, Failure, Interrupted, MessageWriter, TaskCancelled, TaskContext, ToolResult, type Next } from "./worker/task.js";
export { Worker, type HandlerOptions, type WorkerOptions } from "./worker/worker.js";
