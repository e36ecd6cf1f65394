import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { createServer } from "node:http2";
import { join } from "node:path";
import { test } from "node:test";

import { connectNodeAdapter } from "@connectrpc/connect-node";
import { RunloomError, connect, type NodeOptions } from "@runloom/client";

import { Workers } from "../src/gen/runloom/v1/workers_pb.js";
import { Server, certificates, collect, fast } from "./server.js";

test("mutual TLS", { timeout: 60_000 }, async () => {
  const folder = await certificates();
  const file = (name: string) => join(folder, name);
  const server = await Server.start(
    { "approval.yaml": undefined }, "--tls-cert", file("server.crt"), "--tls-key", file("server.key"), "--tls-client-ca", file("ca.crt"),
  );
  const [ca, cert, key] = await Promise.all(["ca.crt", "client.crt", "client.key"].map((name) => readFile(file(name))));
  const list = async (options: NodeOptions) => {
    const client = connect(`https://${server.address}`, options);
    try {
      return (await collect(client.graphs.list())).map(({ name }) => name);
    } finally {
      client.close();
    }
  };
  const tls = { ca: ca!, cert: cert!, key: key! };
  assert.deepEqual(await list({ tls, retry: fast }), ["approval"]);
  const once = { maxRetries: 0 };
  await assert.rejects(list({ tls: { ca: ca! }, retry: once }), RunloomError);
  await assert.rejects(list({ tls: { cert: cert!, key: key! }, retry: once }), RunloomError);
  await server.stop();
  await rm(folder, { recursive: true });
});

test("an API key is sent with each call", { timeout: 20_000 }, async () => {
  const sent: (string | null)[] = [];
  const server = createServer(connectNodeAdapter({
    routes: (router) => router.service(Workers, {
      listWorkers(_, context) {
        sent.push(context.requestHeader.get("authorization"));
        return {};
      },
    }),
  })).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect(`127.0.0.1:${(server.address() as { port: number }).port}`, { apiKey: "secret" });
  await client.workers.list();
  assert.deepEqual(sent, ["Bearer secret"]);
  client.close();
  server.close();
});
