/** Connections of Node: HTTP/2, with or without TLS. */
import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";
import type { Transport } from "@connectrpc/connect";

import type { ClientOptions } from "./core.js";

/** Options of a client on Node. */
export interface NodeOptions extends ClientOptions {
  /** TLS: a certificate authority (`ca`), a client certificate (`cert`, `key`), as in `tls.connect`. The address must begin with https://. */
  tls?: { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer; servername?: string };
}

/** A transport, and what closes its connection. */
export function transport(address: string, options: NodeOptions): { transport: Transport; close: () => void } {
  const baseUrl = address.includes("://") ? address : `http://${address}`;
  const sessions = new Http2SessionManager(
    baseUrl, { pingIntervalMs: 30_000, pingTimeoutMs: 20_000, pingIdleConnection: true, idleConnectionTimeoutMs: 600_000 }, options.tls,
  );
  const maxBytes = (options.maxMessageBytes ?? 64 << 20) + (1 << 20);
  return {
    transport: createGrpcTransport({ baseUrl, sessionManager: sessions, readMaxBytes: maxBytes }),
    close: () => sessions.abort(),
  };
}
