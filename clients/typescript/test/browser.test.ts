import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { accessSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

import { build } from "esbuild";

import { Server } from "./server.js";

const names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
const folders = (process.env["PATH"] ?? "").split(delimiter);
const browser = names.flatMap((name) => folders.map((folder) => join(folder, name))).find((file) => {
  try {
    accessSync(file);
    return true;
  } catch {
    return false;
  }
});
const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync",
];

test("the client works in a browser, by gRPC-Web on the gRPC port", { skip: !browser && !process.env["CI"] && "there is no Chromium" }, async () => {
  assert.ok(browser, "there is no Chromium");
  const server = await Server.start({ "approval.yaml": undefined });
  const bundle = await build({ entryPoints: [join(import.meta.dirname, "page.js")], bundle: true, write: false, format: "esm", platform: "browser" });
  const profile = await mkdtemp(join(tmpdir(), "runloom-browser-"));
  let found!: (result: unknown) => void;
  const result = new Promise((resolve) => (found = resolve));
  const pages = createServer(async (request, response) => {
    if (request.method === "POST") found(JSON.parse(await text(request)));
    else if (request.url === "/page.js") response.setHeader("content-type", "text/javascript").write(bundle.outputFiles[0]!.text);
    else response.setHeader("content-type", "text/html").write('<script type="module" src="/page.js"></script>');
    response.end();
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  const { port } = pages.address() as { port: number };
  const url = `http://127.0.0.1:${port}/?server=${encodeURIComponent(`http://${server.address}`)}`;
  const process_ = spawn(browser, [...flags, `--user-data-dir=${profile}`, "--remote-debugging-port=0", url], { stdio: "ignore" });
  const exit = once(process_, "exit");
  try {
    const timer = setTimeout(() => found("nothing within 60 s"), 60_000);
    assert.deepEqual(await result, {
      seen: ["Writing…", "write", "ask", "awaiting_input"],
      status: "published",
      reason: "THREAD_NOT_FOUND",
    });
    clearTimeout(timer);
  } finally {
    process_.kill("SIGKILL");
    await exit;
    pages.closeAllConnections();
    pages.close();
    await server.stop();
    await rm(profile, { recursive: true, force: true, maxRetries: 10 });
  }
});
