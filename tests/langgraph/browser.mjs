// The pages of pages/ in a real browser. Called with the server's URL and the browser's path; fails where a page does not show what a run says.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

import { Client } from "@langchain/langgraph-sdk";
import { chromium } from "playwright-core";

const [api, executablePath] = process.argv.slice(2);
const reply = "It is sunny in San Francisco, and 18 degrees. A light jacket will do.";
const input = { messages: [{ role: "human", content: "What's the weather in SF?" }] };

// Pages of another origin, as those of a developer's own server are.
const pages = createServer(async (request, response) => {
  const name = new URL(request.url, "http://pages").pathname;
  if (!/^\/\w+\.html$/.test(name)) return response.writeHead(404).end();
  response.setHeader("content-type", "text/html").end(await readFile(new URL(`./pages${name}`, import.meta.url)));
}).listen(0, "127.0.0.1");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const client = new Client({ apiUrl: api });
  const page = await browser.newPage();
  const show = async (name, query, ends) => {
    await page.goto(`http://127.0.0.1:${pages.address().port}/${name}.html?${new URLSearchParams({ api, ...query })}`);
    await page.waitForFunction(() => document.title === "done", null, { timeout: 60_000 });
    const said = await page.locator("#said").textContent();
    assert.ok(said.endsWith(reply), `${name}: ${said}`);
    const ended = (await page.locator("#ended").textContent()).trim().split(" ");
    assert.ok(ends(ended), `${name}: ${ended}`);
    console.log(`${name}: as it should be`);
  };
  const { thread_id: thread } = await client.threads.create();
  const { run_id: run } = await client.runs.create(thread, "agent", { input, streamMode: ["events"] });
  // An event is its data here, under its kind; a message of the socket has the name too.
  await show("eventsource", { thread, run }, (ended) => ended.length >= 4 && ended.every((keys) => keys.includes("output")));
  await show("websocket", { thread }, (ended) => ["agent", "tools"].every((node) => ended.includes(node)));
} finally {
  await browser.close();
  pages.close();
}
