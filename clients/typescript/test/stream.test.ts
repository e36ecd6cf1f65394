import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { connect, type RunSpec, type RunStream } from "@runloom/client";

import { Cutter, Server, fast } from "./server.js";

const talk = `
runloom: v1
name: talk
state:
  messages: { reducer: messages }
  log: { reducer: append }
models:
  bot: { scripted: { responses: [ { content: "one two three" } ] } }
nodes:
  say: { chat_model: { model: bot } }
  note: { steps: [ { emit: '{"at": "note"}' }, { update: { log: '["noted"]' } } ] }
edges:
  - { from: START, to: say }
  - { from: say, to: note }
`;
const slow = `
runloom: v1
name: slow
state: { log: { reducer: append } }
nodes:
  one: { steps: [ { sleep_ms: '300' }, { update: { log: '["one"]' } } ] }
  two: { steps: [ { sleep_ms: '300' }, { update: { log: '["two"]' } } ] }
edges:
  - { from: START, to: one }
  - { from: one, to: two }
`;
const spec: RunSpec = {
  graphName: "talk",
  input: { messages: [{ role: "user", content: "go" }] },
  streamModes: ["values", "updates", "messages", "custom", "tasks", "events"],
};

let server: Server, cutter: Cutter;
before(async () => {
  server = await Server.start({ "talk.yaml": talk, "slow.yaml": slow });
  cutter = new Cutter();
});
after(async () => {
  cutter.stop();
  await server.stop();
});

/** The kinds of the parts with a number. Fails if one is missing or comes twice. */
async function numbered(stream: RunStream): Promise<string[]> {
  const kinds: string[] = [];
  for await (const { seq, payload } of stream) {
    if (seq === 0) assert.ok(payload.case !== "metadata" || kinds.length === 0, "the stream begins again");
    else {
      assert.equal(seq, kinds.length + 1);
      kinds.push(payload.case ?? "unknown");
    }
  }
  return kinds;
}

test("a stream is whole wherever the connection is cut", async () => {
  const direct = connect(server.address);
  const whole = await numbered(direct.runs.stream(spec));
  direct.close();
  assert.ok(whole.length > 20 && whole.at(-1) === "end", String(whole));
  let frames = 0;
  for (; ; frames++) {
    const client = connect(await cutter.listen(server.address, frames), { retry: fast });
    assert.deepEqual(await numbered(client.runs.stream(spec)), whole, `cut after ${frames} frames`);
    client.close();
    if (!(await cutter.hasCut())) break;
  }
  assert.ok(frames >= whole.length, `${frames} cuts for ${whole.length} parts`);
});

test("a thread's stream is whole wherever the connection is cut", async () => {
  const direct = connect(server.address);
  const { threadId } = await direct.threads.create();
  for (const frames of [4, 9, 15, 22, 30, 38]) {
    const client = connect(await cutter.listen(server.address, frames), { retry: fast });
    const last = new Map<string, number>();
    let [started, ends] = [false, 0];
    for await (const { seq, runId, payload } of client.threads.stream(threadId)) {
      if (!started) {
        started = true;
        for (let i = 0; i < 2; i++) await direct.runs.create({ ...spec, threadId });
      }
      if (seq > 0) {
        assert.equal(seq, (last.get(runId) ?? 0) + 1, `cut after ${frames} frames`);
        last.set(runId, seq);
      }
      if (payload.case === "end" && ++ends === 2) break;
    }
    client.close();
  }
  direct.close();
});

test("a stream goes on after a crash of the server", async () => {
  const client = connect(server.address, { retry: fast });
  const updates: string[] = [];
  let log: unknown;
  let last = 0;
  const stream = client.runs.stream({ graphName: "slow", input: {}, streamModes: ["updates", "values"], durability: "sync" });
  for await (const { seq, payload } of stream) {
    assert.ok(seq === 0 || seq > last);
    last = Math.max(last, seq);
    switch (payload.case) {
      case "update":
        updates.push(payload.value.node);
        if (payload.value.node === "one") {
          await server.kill();
          await server.start();
        }
        break;
      case "value":
        log = (payload.value.state as { log: unknown }).log;
        break;
      case "end":
        assert.equal(payload.value.state, "succeeded");
    }
  }
  assert.deepEqual([updates, log], [["one", "two"], ["one", "two"]]);
  client.close();
});

test("creating a run is safe to repeat wherever the connection is cut", async () => {
  const direct = connect(server.address);
  for (let frames = 0; frames < 6; frames++) {
    const client = connect(await cutter.listen(server.address, frames), { retry: fast });
    const { threadId } = await direct.threads.create();
    const { runId } = await client.runs.create({ ...spec, threadId });
    const ids: string[] = [];
    for await (const run of direct.runs.list({ threadId })) ids.push(run.runId);
    assert.deepEqual(ids, [runId]);
    client.close();
  }
  direct.close();
});
