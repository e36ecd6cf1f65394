import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";

import { Command, Failure, TaskCancelled, Worker, connect, type Client, type RunSpec } from "@runloom/client";

import { Cutter, Server, fast } from "./server.js";

const desk = `
runloom: v1
name: desk
state:
  amount: { schema: { type: number }, default: 10 }
  log: { reducer: append }
  messages: { reducer: messages }
models:
  bot:
    scripted:
      responses:
        - { content: "Let me look.", tool_calls: [ { name: search, args: { words: tea } } ] }
        - content: "There is tea."
tools:
  search:
    description: Searches.
    parameters: { type: object, properties: { words: { type: string } }, required: [words] }
    worker: { queue: desk, handler: search }
nodes:
  look_up: { worker: { queue: desk, handler: look_up } }
  approve: { worker: { queue: desk, handler: approve }, retry: { max_attempts: 2, initial_ms: 1 } }
  agent: { chat_model: { model: bot, tools: [search] } }
  tools: { tools: {} }
edges:
  - { from: START, to: look_up }
  - { from: look_up, to: approve }
  - { from: approve, to: agent }
  - { from: agent, name: more, route: 'size(state.messages[size(state.messages) - 1].tool_calls) > 0 ? "tools" : "END"', to: [tools, END] }
  - { from: tools, to: agent }
`;
const chain = `
runloom: v1
name: chain
state: { log: { reducer: append } }
nodes:
  one: { worker: { queue: chain, handler: step } }
  two: { worker: { queue: chain, handler: step } }
edges:
  - { from: START, to: one }
  - { from: one, to: two }
`;

let server: Server, client: Client;
before(async () => {
  server = await Server.start({ "chain.yaml": chain });
  client = connect(server.address);
});
after(async () => {
  client.close();
  await server.stop();
});

test("a graph with a worker: emits, messages, a retry, a question, a tool", { timeout: 60_000 }, async () => {
  let failures = 0;
  const schema = { type: "object", required: ["ok"] };
  const worker = new Worker(server.address, { queue: "desk", documents: [desk], retry: fast })
    .node("look_up", async (_, task) => {
      await task.emit({ status: "looking" });
      const message = task.message("desk-model");
      for (const text of ["One ", "moment."]) await message.text(text);
      await message.end();
      return { log: ["looked up"] };
    })
    .node<{ amount: number }>("approve", ({ amount }, task) => {
      if (++failures === 1) throw new Failure("Busy", "try again", { retryable: true });
      const answer = amount > 1000 ? (task.interrupt({ question: "Approve?" }, { responseSchema: schema }) as { ok: boolean }) : { ok: true };
      return new Command({ update: { log: [`approved ${answer.ok}`] } });
    })
    .tool<{ words: string }>("search", async ({ words }, task) => {
      await task.emit({ searching: words });
      return `found ${words}`;
    });
  const stop = new AbortController();
  const ended = worker.run({ signal: stop.signal });
  await client.workers.waitFor("desk");
  const { threadId } = await client.threads.create();
  const custom: unknown[] = [], text: string[] = [];
  const read = async (spec: RunSpec) => {
    for await (const { payload } of client.runs.stream({ threadId, graphName: "desk", streamModes: ["custom", "messages"], ...spec })) {
      if (payload.case === "custom") custom.push(payload.value.payload);
      if (payload.case === "messageChunk" && payload.value.node === "look_up") text.push(payload.value.messageId);
      if (payload.case === "end") return payload.value;
    }
    throw new Error("no end");
  };
  const asked = await read({ input: { amount: 2000 } });
  assert.deepEqual([asked.state, asked.interrupts[0]?.value], ["awaiting_input", { question: "Approve?" }]);
  assert.deepEqual(asked.interrupts[0]?.responseSchema, schema);
  assert.equal(text.length, 1);
  assert.equal((await read({ command: { resume: { ok: true } } })).state, "succeeded");
  assert.deepEqual(custom, [{ status: "looking" }, { searching: "tea" }]);
  const { checkpoint } = await client.threads.state(threadId);
  const values = checkpoint!.values as { log: string[]; messages: { content: string }[] };
  assert.deepEqual([values.log, values.messages[1]?.content], [["looked up", "approved true"], "found tea"]);
  stop.abort();
  await ended;
});

test("a run ends wherever the worker's connection is cut, with each write once", { timeout: 60_000 }, async () => {
  const cutter = new Cutter();
  let frames = 0;
  for (; ; frames++) {
    const stop = new AbortController();
    const worker = new Worker(await cutter.listen(server.address, frames), { queue: "chain", retry: fast });
    const ended = worker.node("step", (_, task) => ({ log: [task.node] })).run({ signal: stop.signal });
    const { values, end } = await client.runs.wait({ graphName: "chain", input: {} });
    assert.deepEqual([values, end?.state], [{ log: ["one", "two"] }, "succeeded"], `cut after ${frames} frames`);
    stop.abort();
    await ended;
    if (!(await cutter.hasCut())) break;
  }
  assert.ok(frames > 5, `only ${frames} cuts`);
  cutter.stop();
});

test("cancelling a run aborts the signal of its task", { timeout: 60_000 }, async () => {
  const stop = new AbortController();
  let started!: (runId: string) => void, aborted!: (reason: unknown) => void;
  const [start, abort] = [new Promise<string>((resolve) => (started = resolve)), new Promise<unknown>((resolve) => (aborted = resolve))];
  const worker = new Worker(server.address, { queue: "chain", retry: fast }).node("step", async (_, task) => {
    started(task.runId);
    await once(task.signal, "abort");
    aborted(task.signal.reason);
  });
  const ended = worker.run({ signal: stop.signal });
  await client.runs.create({ graphName: "chain", input: {} });
  assert.equal((await client.runs.cancel(await start, { wait: true })).state, "cancelled");
  const reason = await abort;
  assert.ok(reason instanceof TaskCancelled && reason.reason === "run_cancelled", String(reason));
  stop.abort();
  await ended;
});
