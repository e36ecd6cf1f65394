import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http2";
import { test, type TestContext } from "node:test";

import { create } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Command, Failure, TaskCancelled, Worker, version, type TaskContext, type WorkerOptions } from "@runloom/client";

import { AttachResponseSchema, Workers, type AttachRequest, type AttachResponse, type ChannelValue, type Hello } from "../src/gen/runloom/v1/workers_pb.js";
import { fast } from "./server.js";

type Sent = Exclude<AttachRequest["message"], { case: undefined }>;

/** The server's side of one connection, as a test plays it. */
class Peer {
  credit = 0;
  hello!: Hello;
  readonly #requests: AsyncIterator<AttachRequest>;
  #responses: AttachResponse[] = [];
  #wake = () => {};
  isOver = false;

  constructor(requests: AsyncIterable<AttachRequest>) {
    this.#requests = requests[Symbol.asyncIterator]();
  }

  send(message: object): void {
    this.#responses.push(create(AttachResponseSchema, { message: message as never }));
    this.#wake();
  }

  /** The next message that is not credit or a heartbeat of the worker; undefined at the end. */
  async next(): Promise<Sent | undefined> {
    for (;;) {
      const { value, done } = await this.#requests.next();
      if (done) return undefined;
      const { message } = value as AttachRequest;
      if (message.case === "hello") this.hello = message.value;
      if (message.case === "ready") this.credit += message.value.tasks;
      else if (message.case !== "heartbeat" || message.value.token.length > 0) return message as Sent;
    }
  }

  async ready(): Promise<void> {
    while (this.credit === 0) {
      const { value } = await this.#requests.next();
      const { message } = value as AttachRequest;
      if (message.case === "ready") this.credit += message.value.tasks;
    }
  }

  task(name: string, fields: object = {}): void {
    this.credit -= 1;
    this.send({ case: "task", value: { token: Buffer.from(name), taskId: name, kind: 1, handler: "node", ...fields } });
  }

  async done(): Promise<Extract<Sent, { case: "done" }>["value"]> {
    const message = await this.next();
    assert.equal(message?.case, "done");
    const { value } = message as Extract<Sent, { case: "done" }>;
    this.send({ case: "stored", value: { token: value.token } });
    return value;
  }

  end(): void {
    this.isOver = true;
    this.#wake();
  }

  async *responses(): AsyncGenerator<AttachResponse> {
    for (;;) {
      while (this.#responses.length > 0) yield this.#responses.shift()!;
      if (this.isOver) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

/** Plays one function for each connection of a worker, in turn. Resolves when all have been played. */
async function play(t: TestContext, options: Partial<WorkerOptions>, node: (state: any, task: TaskContext) => unknown, ...connections: ((peer: Peer, stop: () => void) => Promise<void>)[]) {
  const stop = new AbortController();
  const plays: Promise<void>[] = [];
  let all!: () => void;
  const started = new Promise<void>((resolve) => (all = resolve));
  const adapter = connectNodeAdapter({
    routes: (router) => router.service(Workers, {
      async *attach(requests) {
        const peer = new Peer(requests);
        const script = connections[plays.length];
        if (script) {
          await peer.next();
          peer.send({ case: "welcome", value: { heartbeatTimeout: { seconds: 0n, nanos: 300_000_000 } } });
          plays.push(script(peer, () => stop.abort()).finally(() => peer.end()));
          if (plays.length === connections.length) all();
        }
        yield* peer.responses();
      },
    }),
  });
  const server = createServer(adapter).listen(0, "127.0.0.1");
  await once(server, "listening");
  const worker = new Worker(`127.0.0.1:${(server.address() as { port: number }).port}`, { queue: "test", retry: fast, ...options }).node("node", node);
  const ended = worker.run({ signal: stop.signal });
  t.after(() => {
    stop.abort();
    server.close();
  });
  await started;
  await Promise.all(plays);
  return { stop: () => (stop.abort(), ended) };
}

const text = (json: unknown) => ({ encoding: { case: "json", value: JSON.stringify(json) } });
const updated = (done: { outcome: { case?: string | undefined; value?: any } }) => {
  assert.equal(done.outcome.case, "update");
  return JSON.parse(done.outcome.value.update.encoding.value);
};

test("a worker sends an outcome again until it is stored", { timeout: 20_000 }, async (t) => {
  const { stop } = await play(t, {}, (state) => state, async (peer) => {
    await peer.ready();
    peer.task("a", { state: [{ channel: "n", value: { case: "whole", value: text(1) } }] });
    const message = await peer.next();
    assert.deepEqual(updated((message as Extract<Sent, { case: "done" }>).value), { n: 1 });
  }, async (peer) => {
    assert.deepEqual(updated(await peer.done()), { n: 1 });
    assert.equal(peer.credit, 0);
    await peer.ready();
  });
  await stop();
});

test("a worker caches state and asks for what is missing", { timeout: 20_000 }, async (t) => {
  const list = (version: string, value: object) => ({ channel: "list", version, value }) as unknown as ChannelValue;
  const appended = (base: string, keep: number, items: unknown) => ({ case: "appended", value: { base, keep: BigInt(keep), items: text(items) } });
  const unchanged = { channel: "n", version: "w1", value: { case: "unchanged", value: {} } };
  await play(t, {}, (state) => state, async (peer) => {
    await peer.ready();
    peer.task("1", { state: [list("v1", { case: "whole", value: text([1, 2, 3]) }), { channel: "n", version: "w1", value: { case: "whole", value: text(7) } }] });
    assert.deepEqual(updated(await peer.done()), { list: [1, 2, 3], n: 7 });
    peer.task("2", { state: [list("v2", appended("v1", 2, [4, 5])), unchanged] });
    assert.deepEqual(updated(await peer.done()), { list: [1, 2, 4, 5], n: 7 });
    peer.task("3", { state: [list("v9", appended("v8", 1, [6])), unchanged] });
    const message = await peer.next();
    assert.equal(message?.case, "missing");
    assert.deepEqual((message as Extract<Sent, { case: "missing" }>).value.channels, ["list"]);
    peer.send({ case: "values", value: { token: Buffer.from("3"), values: [list("v9", { case: "whole", value: text([9]) })] } });
    assert.deepEqual(updated(await peer.done()), { list: [9], n: 7 });
  });
});

test("a worker gives credit for what it can execute", { timeout: 20_000 }, async (t) => {
  let release!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  await play(t, { maxTasks: 2 }, (_, task) => (task.taskId === "b" ? held : undefined), async (peer) => {
    await peer.ready();
    assert.equal(peer.credit, 2);
    peer.task("a");
    peer.task("b");
    await peer.done();
    await peer.ready();
    assert.equal(peer.credit, 1);
    release();
    await peer.done();
  });
});

test("handlers emit, ask, fail and are cancelled", { timeout: 20_000 }, async (t) => {
  const node = async (_: unknown, task: TaskContext) => {
    switch (task.taskId) {
      case "ask": {
        await task.emit({ status: "asking" });
        await task.message("model").text("Hm");
        const answer = task.interrupt("Really?");
        return new Command({ update: { answer }, goto: "next" });
      }
      case "fail":
        throw new Failure("Busy", "busy", { retryable: true, retryDelay: 1000 });
      case "throw":
        throw new RangeError("too far");
      default:
        await once(task.signal, "abort");
        assert.ok(task.signal.reason instanceof TaskCancelled);
        throw new Error(task.signal.reason.reason);
    }
  };
  await play(t, {}, node, async (peer) => {
    const emitted = async () => {
      const custom = (await peer.next()) as Extract<Sent, { case: "emit" }>;
      assert.deepEqual([custom.case, custom.value.part.case], ["emit", "custom"]);
      const { value } = (await peer.next()) as Extract<Sent, { case: "emit" }>;
      const { chunk } = value.part.value as { chunk: { model: string; role: number; content: { block: { value: string } }[] } };
      assert.deepEqual([chunk.model, chunk.role, chunk.content[0]?.block.value], ["model", 2, "Hm"]);
    };
    await peer.ready();
    peer.task("ask");
    await emitted();
    const asked = (await peer.done()).outcome;
    assert.equal(asked.case, "interrupts");
    assert.deepEqual((asked.value as any).questions.map((question: any) => [question.index, question.value.encoding.value]), [[0, '"Really?"']]);
    peer.task("ask", { answers: [text("yes")] });
    await emitted();
    const command = (await peer.done()).outcome.value as any;
    assert.deepEqual([command.update.encoding.value, command.goto[0].node], ['{"answer":"yes"}', "next"]);
    peer.task("fail");
    const failure = (await peer.done()).outcome.value as any;
    assert.deepEqual([failure.type, failure.message, failure.retryable, failure.retryDelay.seconds], ["Busy", "busy", 1, 1n]);
    peer.task("throw");
    const thrown = (await peer.done()).outcome.value as any;
    assert.deepEqual([thrown.type, thrown.message], ["RangeError", "too far"]);
    peer.task("wait");
    peer.send({ case: "cancel", value: { token: Buffer.from("wait"), reason: 1 } });
    assert.equal(((await peer.done()).outcome.value as any).message, "run_cancelled");
  });
});

test("a worker drains, and says what it is and that it is alive", { timeout: 20_000 }, async (t) => {
  let release!: () => void, begun!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  const started = new Promise<void>((resolve) => (begun = resolve));
  const order: string[] = [];
  const controls = await play(t, { documents: ["document"] }, () => (begun(), held), async (peer, stop) => {
    const { hello } = peer;
    assert.deepEqual([hello.sdk, hello.sdkVersion, hello.queue, hello.handlers.length, hello.documents], ["typescript", version, "test", 1, ["document"]]);
    await peer.ready();
    peer.task("a");
    await started;
    stop();
    order.push((await peer.next())?.case ?? "closed");
    release();
    await peer.done();
    order.push("done", (await peer.next())?.case ?? "closed");
  });
  await controls.stop();
  assert.deepEqual(order, ["draining", "done", "closed"]);
});
