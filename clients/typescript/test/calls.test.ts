import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Code, RunloomError, connect, version, type Client, type End, type JsonValue, type RunSpec, type RunState } from "@runloom/client";

import { Server, collect, root } from "./server.js";

let server: Server, client: Client;
before(async () => {
  server = await Server.start({ "approval.yaml": undefined });
  client = connect(server.address);
});
after(async () => {
  client.close();
  await server.stop();
});

test("threads, runs, state and history", async () => {
  const thread = await client.threads.create({ metadata: { user: "ann", n: 2 } });
  assert.deepEqual(thread.metadata, { n: 2, user: "ann" });
  assert.ok(thread.createTime instanceof Date);
  const { threadId } = thread;

  const asked = await client.runs.wait({ threadId, graphName: "approval", input: { topic: "tea" } });
  assert.equal(asked.end?.state, "awaiting_input");
  const question = asked.interrupts[0]!;
  assert.equal((question.value as { question: string }).question, "Publish this?");
  const done = await client.runs.wait({ threadId, graphName: "approval", command: { resumeById: { [question.id]: { approved: true } } } });
  assert.equal((done.values as { status: string }).status, "published");

  const { checkpoint } = await client.threads.state(threadId);
  assert.equal((checkpoint!.values as { topic: string }).topic, "tea");
  assert.ok((await collect(client.threads.history(threadId, { pageSize: 2 }))).length > 3);
  const updated = await client.threads.updateState(threadId, { values: { topic: "milk" }, asNode: "publish" });
  assert.ok(updated.checkpointId);
  const runs = await collect(client.runs.list({ threadId, pageSize: 1 }));
  assert.deepEqual(runs.map((run) => run.state), ["succeeded", "awaiting_input"]);
  assert.ok(runs.every((run) => run.requestId));

  const copy = await client.threads.copy(threadId);
  await client.threads.update(copy.threadId, { user: "bob" }, { updateMask: ["metadata.user"] });
  const read = await client.threads.get(copy.threadId, { includeValues: true });
  const metadata = read.metadata as { n: number; user: string };
  assert.deepEqual([metadata.n, metadata.user], [2, "bob"]);
  assert.equal((read.values as { topic: string }).topic, "milk");
  await client.threads.delete(copy.threadId);
  await assert.rejects(client.threads.get(copy.threadId), (error) => RunloomError.is(error, "THREAD_NOT_FOUND"));
});

test("assistants, crons, items and graphs", async () => {
  const assistant = await client.assistants.create({ graphName: "approval", name: "Writer", config: { configurable: { tone: "kind" } } });
  assert.deepEqual(assistant.config?.configurable, { tone: "kind" });
  const { assistantId } = assistant;
  const renamed = await client.assistants.update(assistantId, { name: "Author" }, { updateMask: ["name"] });
  assert.deepEqual([renamed.version, renamed.name], [2, "Author"]);
  assert.equal((await client.assistants.graph(assistantId)).nodes.length, 6);

  const cron = await client.crons.create({ schedule: "0 0 1 1 *", run: { assistantId, input: { topic: "tea" } } });
  assert.ok(cron.nextRunTime! > new Date());
  assert.deepEqual(cron.run?.target, { case: "assistantId", value: assistantId });
  assert.deepEqual((await collect(client.crons.list())).map(({ cronId }) => cronId), [cron.cronId]);
  await client.crons.delete(cron.cronId);

  await client.store.put(["users", "ann"], "likes", { tea: true }, { ttl: 3_600_000 });
  const item = await client.store.get(["users", "ann"], "likes");
  assert.deepEqual(item?.value, { tea: true });
  assert.ok(item?.expireTime! > new Date());
  assert.deepEqual((await collect(client.store.search(["users"], { filter: { tea: true } }))).map(({ key }) => key), ["likes"]);
  assert.deepEqual(await collect(client.store.namespaces()), [["users", "ann"]]);
  assert.equal(await client.store.get(["users", "ann"], "no"), undefined);

  const { graph, changed } = await client.graphs.register("runloom: v1\nname: small\nstate: { n: {} }\nnodes: { a: { update: { n: '1' } } }\nedges: [ { from: START, to: a } ]\n");
  assert.deepEqual([graph?.name, graph?.source, changed], ["small", "registered", true]);
  assert.deepEqual((await collect(client.graphs.list({ pageSize: 1 }))).map(({ name }) => name), ["approval", "small"]);
});

test("errors have their reasons", async () => {
  await assert.rejects(client.runs.create({ graphName: "aproval", input: {} }), (error) => {
    assert.equal(RunloomError.is(error, "INTERNAL"), false);
    assert.ok(RunloomError.is(error, "GRAPH_UNKNOWN"));
    assert.deepEqual([error.code, error.metadata["graph"], error.isTransient], [Code.NotFound, "aproval", false]);
    return true;
  });
  await assert.rejects(client.runs.create({ graphName: "approval", input: { topic: 3 } }), (error) => {
    assert.ok(RunloomError.is(error, "INPUT_INVALID") && error.violations.length > 0, String(error));
    return true;
  });
  // What is wrong is not sent.
  await assert.rejects(async () => client.runs.create({ graphName: "approval", input: {}, streamModes: ["value" as "values"] }), /streamModes\[0\]: "value" is not one of values/);
  await assert.rejects(async () => client.runs.create({ graphName: "approval", inptu: {} } as RunSpec), /no field inptu/);
  await assert.rejects(async () => client.runs.create({ graphName: "approval", assistantId: "x" }), /only one of assistantId, graphName/);
});

test("an aborted call ends with the signal's reason, and is not repeated", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(client.threads.create({}, { signal }), /enough/);
  await assert.rejects(collect(client.runs.stream({ graphName: "approval", input: {} }, { signal })), /enough/);
});

test("a server that is not there is an error after the retries", async () => {
  const nobody = connect("127.0.0.1:9", { retry: { maxRetries: 2, initialDelay: 1 } });
  await assert.rejects(nobody.threads.create(), (error) => error instanceof RunloomError && error.isTransient && error.reason === undefined);
  nobody.close();
});

test("the version is that of the server", async () => {
  const manifest = await readFile(join(root, "Cargo.toml"), "utf8");
  assert.equal(/^version = "(.*)"$/m.exec(manifest)?.[1], version);
  const own = JSON.parse(await readFile(join(root, "clients/typescript/package.json"), "utf8")) as { version: string };
  assert.equal(own.version, version);
});

// Checked by the compiler: the types say what arrives.
export function types(end: End, spec: RunSpec): [RunState, JsonValue | undefined, string | undefined] {
  const state: "unspecified" | "pending" | "running" | "succeeded" | "awaiting_input" | "failed" | "cancelled" | "timed_out" = end.state;
  const code: Code | undefined = end.error?.code;
  const tokens: number | undefined = end.usage?.inputTokens;
  // @ts-expect-error: there is no such mode.
  const wrong: RunSpec = { streamModes: ["nonsense"] };
  // @ts-expect-error: there is no such field.
  const other: RunSpec = { graph: "x" };
  void [code, tokens, wrong, other];
  return [state, end.interrupts[0]?.value, spec.graphName];
}
