// The node of the example in TypeScript: it looks the order up, and reports its progress.
import { setTimeout } from "node:timers/promises";

import { Worker, type TaskContext } from "@runloom/client";

const delay = Number(process.env["POLYGLOT_DELAY_MS"] ?? 300);

async function verify({ order_id }: { order_id: string }, task: TaskContext): Promise<unknown> {
  for (const percent of [0, 50]) {
    await task.emit({ status: `Looking up order ${order_id}…`, percent, language: "TypeScript" });
    await setTimeout(delay / 2, undefined, { signal: task.signal });
  }
  return { order: { id: order_id, price: 129, days_late: 3 }, log: ["verified by TypeScript"] };
}

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());
await new Worker(process.argv[2] ?? "localhost:50051", { queue: "typescript" }).node("verify", verify).run({ signal: stop.signal });
