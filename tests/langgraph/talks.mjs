// More of LangGraph's newer protocol by its JavaScript client: subgraphs, tools, every channel, failures. Called with the server's URL.
import assert from "node:assert/strict";

import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2] });
const help = { messages: [{ role: "user", content: "Which form do I need?" }] };
const form = "Form seven is what you need.";
const all = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"];

// Every channel, once each, in the order of their numbers; a question in a subgraph, and its answer on the same stream.
const desk = client.threads.stream({ assistantId: "desk" });
const events = [];
const following = (async () => {
  const subscription = await desk.subscribe({ channels: all });
  for (;;) {
    for await (const event of subscription) events.push(event);
    if (!subscription.isPaused) return;
    await subscription.waitForResume();
  }
})();
const said = [];
const reading = (async () => {
  for await (const graph of desk.subgraphs) for await (const message of graph.messages) said.push(message.text);
})();
const called = [];
const looking = (async () => {
  for await (const graph of desk.subgraphs) for await (const call of graph.toolCalls) called.push([call.name, call.input ?? call.args]);
})();
await desk.run.start({ input: help });
await desk.output;
assert.ok(desk.interrupted);
const [question] = desk.interrupts;
assert.equal(question.payload.question, "Stamp it?");
assert.match(question.namespace[0], /^clerk:/);
await desk.input.respond({ interrupt_id: question.interruptId, namespace: question.namespace, response: "stamped" });
let state;
do state = await client.threads.getState(desk.threadId);
while (state.values.notes?.at(-1) !== "closed");
assert.equal(state.values.stamp, "stamped");
const isOver = () => events.some(({ method, params }) => method === "lifecycle" && !params.namespace.length && params.data.event === "completed");
while (!isOver()) await new Promise((resolve) => setTimeout(resolve, 10));
await desk.close();
await Promise.all([following, reading, looking]);
assert.deepEqual((await Promise.all(said)).filter((text) => text === form), [form]);
assert.equal(called[0]?.[0], "look_up");
assert.deepEqual([...new Set(events.map((event) => event.method.split(".")[0]))].sort(), [...all].sort());
assert.equal(new Set(events.map((event) => event.event_id)).size, events.length);
const seqs = events.map((event) => event.seq);
assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b));

// A run that fails says why.
const broken = client.threads.stream({ assistantId: "broken" });
await broken.run.start({ input: help });
let failure;
for await (const { params } of await broken.subscribe({ channels: ["lifecycle"] })) if (params.data.event === "failed") failure ??= params.data.error;
assert.match(failure, /the printer is on fire/);
await broken.close();

console.log("all as it should be");
