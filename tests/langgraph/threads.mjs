// LangGraph's newer protocol, as its JavaScript client speaks it. Called with the server's URL; fails, or does not end, where an answer is not as it should be.
import assert from "node:assert/strict";

import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2] });
const reply = "It is sunny in San Francisco, and 18 degrees. A light jacket will do.";

// Messages arrive one by one, each with its whole text in the end.
const agent = client.threads.stream({ assistantId: "agent" });
const texts = [];
const reading = (async () => {
  for await (const message of agent.messages) texts.push(message.text);
})();
await agent.run.start({ input: { messages: [{ role: "user", content: "What is the weather in SF?" }] } });
assert.equal((await agent.output).messages.at(-1).content, reply);
await agent.close();
await reading;
assert.deepEqual((await Promise.all(texts)).filter((text) => text === reply), [reply]);

// A run that stops at a question goes on with the answer.
const approval = client.threads.stream({ assistantId: "approval" });
await approval.run.start({ input: { topic: "tea" } });
await approval.output;
assert.ok(approval.interrupted);
const [question] = approval.interrupts;
assert.equal(question.payload.question, "Publish this?");
await approval.input.respond({ interrupt_id: question.interruptId, namespace: question.namespace, response: { approved: true } });
let state;
do state = await client.threads.getState(approval.threadId);
while (state.values.status !== "published");
await approval.close();

console.log("all as it should be");
