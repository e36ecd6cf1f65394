/** A server for tests: `runloom serve` on a free port, and the proxy that cuts connections. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { connect, type Client } from "@runloom/client";

export const root = join(import.meta.dirname, "../../../..");
const binary = process.env["RUNLOOM_BIN"] ?? join(root, "target/debug/runloom");
const cut = process.env["RUNLOOM_CUT"] ?? join(root, "target/tools/bin/runloom-cut");

/** Retries that do not make tests slow. */
export const fast = { maxRetries: 40, initialDelay: 1, maxDelay: 200 };

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

export class Server {
  readonly address: string;
  readonly #home: string;
  readonly #options: string[];
  #process!: ChildProcess;
  #output = "";

  private constructor(address: string, home: string, options: string[]) {
    this.address = address;
    this.#options = options;
    this.#home = home;
  }

  /** Starts a server with documents by file name; those without a text are examples of the repository. */
  static async start(documents: Record<string, string | undefined>, ...options: string[]): Promise<Server> {
    const home = await mkdtemp(join(tmpdir(), "runloom-ts-"));
    await mkdir(join(home, "graphs"));
    for (const [name, text] of Object.entries(documents)) {
      const file = join(home, "graphs", name);
      await (text === undefined ? cp(join(root, "examples", name), file) : writeFile(file, text));
    }
    const server = new Server(`127.0.0.1:${await freePort()}`, home, options);
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const options = ["serve", "--grpc", this.address, "--http", "off", "--graphs", join(this.#home, "graphs"), "--data", join(this.#home, "data")];
    const server = spawn(binary, [...options, ...this.#options], { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = server;
    for (const stream of [server.stdout, server.stderr]) stream.on("data", (text) => (this.#output += text));
    if (this.#options.length > 0) return;
    const client = connect(this.address, { retry: { maxRetries: 600, initialDelay: 20, maxDelay: 50 } });
    const ended = once(server, "exit").then(() => assert.fail(`the server ended:\n${this.#output}`));
    ended.catch(() => {});
    await Promise.race([ended, client.graphs.list()[Symbol.asyncIterator]().next()]);
    client.close();
  }

  async kill(): Promise<void> {
    const exit = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await exit;
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.#home, { recursive: true, force: true });
  }
}

/** Certificates for tests in a folder: ca.crt, server.crt, server.key, client.crt, client.key. */
export async function certificates(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "runloom-certs-"));
  const [code] = (await once(spawn(cut, ["certs", folder], { stdio: "inherit" }), "exit")) as [number];
  assert.equal(code, 0);
  return folder;
}

/** The proxy, a program in Go: it takes the frames of HTTP/2 apart. */
export class Cutter {
  readonly #process = spawn(cut, { stdio: ["pipe", "pipe", "inherit"] });
  readonly #lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();

  async #ask(line: string): Promise<string> {
    this.#process.stdin.write(`${line}\n`);
    return (await this.#lines.next()).value as string;
  }

  /** The address of a new proxy that cuts its first connection after so many frames. */
  listen(server: string, frames: number): Promise<string> {
    return this.#ask(`${server} ${frames}`);
  }

  /** Whether it has cut, and somebody connected again. */
  async hasCut(): Promise<boolean> {
    const [cut, connections] = (await this.#ask("?")).split(" ");
    return cut === "true" && Number(connections) > 1;
  }

  stop(): void {
    this.#process.stdin.end();
  }
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

export type { Client };
