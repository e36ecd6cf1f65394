/** Calls with retries, pages and streams, for all services. */
import type { DescMessage, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { createClient, type CallOptions as ConnectOptions, type Transport } from "@connectrpc/connect";

import { RunloomError } from "./errors.js";
import { JsonEncoding } from "./gen/runloom/v1/json_pb.js";
import { Runs } from "./gen/runloom/v1/runs_pb.js";
import { Threads } from "./gen/runloom/v1/threads_pb.js";
import { decode, encode } from "./plain.js";
import { defaultRetry, waitToRetry, type RetryPolicy } from "./retry.js";
import type { Init, Plain } from "./types.js";

/** Options of a client, on Node and in a browser. */
export interface ClientOptions {
  /** A key, sent with each call as `authorization: Bearer KEY`. */
  apiKey?: string;
  /** Retries. */
  retry?: Partial<RetryPolicy>;
  /** Maximum size of a message in bytes; larger parts of a stream arrive without their data. Default: 64 MiB. */
  maxMessageBytes?: number;
}

/** Options of one call. */
export interface CallOptions {
  /** Ends the call, or the stream. */
  signal?: AbortSignal;
}

type Fields = Record<string, unknown>;

/** What the services share. */
export class Core {
  readonly runs;
  readonly threads;
  readonly retry: RetryPolicy;
  readonly maxPartBytes: number;
  readonly #headers: Record<string, string>;
  readonly #transport: Transport;

  constructor(transport: Transport, options: ClientOptions, headers: Record<string, string> = {}) {
    this.#transport = transport;
    this.runs = createClient(Runs, transport);
    this.threads = createClient(Threads, transport);
    this.retry = { ...defaultRetry, ...options.retry };
    this.maxPartBytes = options.maxMessageBytes ?? 64 << 20;
    this.#headers = { ...(options.apiKey ? { authorization: `Bearer ${options.apiKey}` } : {}), ...headers };
  }

  /** The same, with more headers. */
  withHeaders(headers: Record<string, string>): Core {
    return new Core(this.#transport, { retry: this.retry, maxMessageBytes: this.maxPartBytes }, { ...this.#headers, ...headers });
  }

  connectOptions(signal: AbortSignal | undefined): ConnectOptions {
    return { headers: this.#headers, ...(signal ? { signal } : {}) };
  }

  /** Encodes a request, and fills in what all requests have in common. */
  request<I extends DescMessage>(desc: I, init: Init<MessageShape<I>>): MessageShape<I> {
    const message = encode(desc, init) as unknown as Fields;
    if ("jsonEncoding" in message) message["jsonEncoding"] = JsonEncoding.TEXT;
    if ("maxPartBytes" in message) message["maxPartBytes"] = this.maxPartBytes;
    return message as MessageShape<I>;
  }

  /** Calls an RPC, and repeats it if that is safe. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>, init: Init<MessageShape<I>>, options: CallOptions = {}, { once = false } = {},
  ): Promise<Plain<MessageShape<O>>> {
    const request = this.request(method.input, init);
    for (let failures = 1; ; failures++) {
      try {
        const response = await this.#transport.unary(method, options.signal, undefined, this.#headers, request as never);
        return decode(method.output, response.message) as Plain<MessageShape<O>>;
      } catch (thrown) {
        const error = RunloomError.from(thrown, options.signal);
        if (once) throw error;
        await waitToRetry(this.retry, failures, error, options.signal);
      }
    }
  }

  /** Iterates over the items of all pages. */
  async *pages<Item>(page: (pageToken: string) => Promise<{ items: Item[]; nextPageToken: string }>): AsyncGenerator<Item, void, undefined> {
    for (let token = ""; ; ) {
      const { items, nextPageToken } = await page(token);
      yield* items;
      if (!nextPageToken) return;
      token = nextPageToken;
    }
  }
}

/** A field that every response has. */
export function present<T>(field: T | undefined, name: string): T {
  if (field === undefined) throw RunloomError.broken(`the server's response has no ${name}`);
  return field;
}

/** A UUID of version 7: the time in milliseconds, and random bits. */
export function newId(): string {
  const random = crypto.getRandomValues(new Uint8Array(10));
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const tail = Array.from(random.slice(4), (byte) => hex(byte, 2)).join("");
  const time = hex(Date.now(), 12);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(random[0]! << 4 | random[1]! >> 4, 3)}-${hex(0x8000 | (random[2]! << 8 | random[3]!) & 0x3fff, 4)}-${tail}`;
}
