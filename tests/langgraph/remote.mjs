// RemoteGraph of LangGraph for JavaScript, alone and as a node of a local graph. Called with the server's URL; fails where an answer is not as it should be.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { Annotation, Command, END, START, StateGraph } from "@langchain/langgraph";
import { RemoteGraph } from "@langchain/langgraph/remote";

const [url] = process.argv.slice(2);
const remote = (graphId) => new RemoteGraph({ graphId, url });
const thread = () => ({ configurable: { thread_id: randomUUID() } });
const weather = { messages: [{ role: "human", content: "What's the weather in SF?" }] };
const help = { messages: [{ role: "human", content: "Which form do I need?" }] };
const form = "Form seven is what you need.";
const collect = async (stream) => {
  const parts = [];
  for await (const part of await stream) parts.push(part);
  return parts;
};
const contents = (state) => state.messages.map((message) => message.content);

// Alone.
const desk = remote("desk");
const drawn = await desk.getGraphAsync();
assert.deepEqual(Object.keys(drawn.nodes).filter((name) => !name.startsWith("__")), ["take", "clerk", "close"]);
const config = thread();
const asks = (error) => error.name === "GraphInterrupt" && error.interrupts[0].value.question === "Stamp it?";
await assert.rejects(desk.invoke(help, config), asks);
// It throws as soon as it reads of the question: the state has it when it is stored.
let state;
do state = await desk.getState(config);
while (!state.tasks[0]?.interrupts.length);
assert.deepEqual(state.next, ["clerk"]);
assert.equal(state.tasks[0].interrupts[0].value.question, "Stamp it?");
const done = await desk.invoke(new Command({ resume: "stamped" }), config);
assert.deepEqual([done.stamp, done.notes, contents(done).at(-1)], ["stamped", ["taken", "closed"], form]);
const history = await collect(desk.getStateHistory(config));
assert.deepEqual(history[0].values.notes, ["taken", "closed"]);
await desk.updateState(config, { notes: ["by hand"] });
assert.deepEqual((await desk.getState(config)).values.notes, ["taken", "closed", "by hand"]);

// Its stream, subgraphs included.
const parts = [];
const streaming = async () => {
  for await (const part of await desk.stream(help, { ...thread(), streamMode: "updates", subgraphs: true })) parts.push(part);
};
await assert.rejects(streaming, asks);
const names = parts.map(([namespace, update]) => [namespace.length, Object.keys(update)[0]]);
assert.deepEqual(names, [[0, "take"], [1, "speak"], [1, "tools"], [1, "speak"], [1, "pause"]]);

// A failure.
await assert.rejects(remote("broken").invoke(help), /the printer is on fire/);

// As a node.
const State = Annotation.Root({ messages: Annotation({ reducer: (_, now) => now }), log: Annotation({ reducer: (old, now) => old.concat(now), default: () => [] }) });
const local = new StateGraph(State)
  .addNode("before", () => ({ log: ["before"] }))
  .addNode("story", remote("story"))
  .addNode("after", ({ messages }) => ({ log: [contents({ messages }).length] }))
  .addEdge(START, "before").addEdge("before", "story").addEdge("story", "after").addEdge("after", END)
  .compile();
assert.deepEqual((await local.invoke(weather)).log, ["before", 3]);
const inner = await collect(local.stream(weather, { streamMode: "updates", subgraphs: true }));
assert.deepEqual(inner.map(([namespace, update]) => [namespace.length, Object.keys(update)[0]]), [[0, "before"], [1, "begin"], [1, "go_on"], [0, "story"], [0, "after"]]);

console.log("all as it should be");
