/** The client for browsers, over gRPC-Web. */
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { Client } from "./client.js";
import type { ClientOptions } from "./core.js";

export * from "./shared.js";

/** Makes a client of the server at an address such as `https://runloom.example.com`. The server's `--cors` must allow the page. */
export function connect(baseUrl: string, options: ClientOptions = {}): Client {
  return new Client(createGrpcWebTransport({ baseUrl, useBinaryFormat: true }), options);
}
