// Programs as users of LangGraph's JavaScript client write them. Called with the server's URL; fails where an answer is not as it should be.
import assert from "node:assert/strict";

import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2] });
const input = { messages: [{ role: "human", content: "What's the weather in SF?" }] };
const reply = "It is sunny in San Francisco, and 18 degrees. A light jacket will do.";

async function collect(streamMode) {
  const thread = await client.threads.create();
  const chunks = [];
  for await (const chunk of client.runs.stream(thread.thread_id, "agent", { input, streamMode })) chunks.push(chunk);
  return chunks;
}

const events = await collect("events");
assert.equal(events[0].event, "metadata");
const tokens = events
  .filter((chunk) => chunk.event === "events" && chunk.data.event === "on_chat_model_stream")
  .map((chunk) => chunk.data.data.chunk.content);
assert.ok(tokens.join("").endsWith(reply) && tokens.length > 10, tokens.join("|"));

const updates = await collect("updates");
assert.deepEqual(updates.filter((chunk) => chunk.event === "updates").flatMap((chunk) => Object.keys(chunk.data)), ["agent", "tools", "agent"]);

const names = (await collect(["updates", "custom"])).map((chunk) => chunk.event);
assert.deepEqual(names.filter((name) => name === "custom").length, 2);

const values = await collect("values");
assert.equal(values.filter((chunk) => chunk.event === "values").at(-1).data.messages.at(-1).content, reply);

const partial = (await collect("messages")).filter((chunk) => chunk.event === "messages/partial");
assert.equal(partial.at(-1).data[0].content, reply);

assert.ok((await collect("debug")).some((chunk) => chunk.event === "debug"));

const thread = await client.threads.create();
const asked = await client.runs.wait(thread.thread_id, "approval", { input: { topic: "tea" } });
assert.equal(asked.__interrupt__[0].value.question, "Publish this?");
const done = await client.runs.wait(thread.thread_id, "approval", { command: { resume: { approved: true } } });
assert.equal(done.status, "published");
assert.deepEqual((await client.threads.getState(thread.thread_id)).next, []);

await client.store.putItem(["team", "notes"], "first", { text: "hello" });
assert.deepEqual((await client.store.getItem(["team", "notes"], "first")).value, { text: "hello" });
assert.equal((await client.store.searchItems(["team"])).items.length, 1);

console.log("all as it should be");
