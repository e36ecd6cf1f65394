// Plays cases in a browser. Called with the browser's path; each line of its input is a case to play, as JSON, and each line of its output says
// how a case went, or asks for something to be done with the server, which a line of its input answers.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

import { Client } from "@langchain/langgraph-sdk";
import { build } from "esbuild";
import { chromium } from "playwright-core";

import * as cases from "./cases.mjs";
import { Tab } from "./tab.mjs";

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const path = (name) => new URL(name, import.meta.url).pathname;

const bundle = await build({
  entryPoints: [path("page.jsx")],
  bundle: true,
  write: false,
  format: "esm",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "error",
});
const script = bundle.outputFiles[0].text;
const html = '<!doctype html><title>Chat</title><div id="root"></div><script type="module" src="/page.js"></script>';
// Pages of another origin than the server's, as a developer's are.
const pages = createServer((request, response) => {
  const isScript = request.url === "/page.js";
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html").end(isScript ? script : html);
});
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
const browser = await chromium.launch({ executablePath: process.argv[2], args });

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const server = {
  async do(what) {
    say({ server: what });
    await lines.next();
  },
  kill: () => server.do("kill"),
  start: () => server.do("start"),
};

async function play({ name, api, hook, transport }) {
  const contexts = [];
  const client = new Client({ apiUrl: api });
  const open = async (graph, thread) => {
    // A context for each tab: none knows what another has stored.
    const context = await browser.newContext();
    contexts.push(context);
    const query = new URLSearchParams({ api, graph, hook, transport });
    if (thread) query.set("thread", thread);
    if (thread && hook === "older") {
      const [run] = await client.runs.list(thread, { status: "running" });
      if (run) query.set("run", run.run_id);
    }
    const tab = new Tab(await context.newPage());
    tab.thread = () => tab.page.evaluate(() => new URLSearchParams(location.search).get("thread"));
    await tab.page.goto(`http://127.0.0.1:${pages.address().port}/?${query}`);
    await tab.page.waitForFunction(() => window.chat);
    return tab;
  };
  const statusOf = async (thread, run) => (await client.runs.get(thread, run.run_id)).status;
  try {
    await cases[name]({ open, client, server, hook, transport, statusOf });
  } finally {
    await Promise.all(contexts.map((context) => context.close()));
  }
}

for (;;) {
  const { value, done } = await lines.next();
  if (done) break;
  try {
    await play(JSON.parse(value));
    say({ ok: true });
  } catch (error) {
    say({ ok: false, error: String(error.stack ?? error) });
  }
}
await browser.close();
pages.close();
