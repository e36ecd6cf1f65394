/** Values of channels by version, so that the server can send what changed. */
import type { ChannelValue } from "../gen/runloom/v1/workers_pb.js";
import { valueOf } from "../plain.js";
import type { JsonValue } from "../types.js";

/** The most values that a cache has. */
const maxValues = 8192;

interface Cached {
  value: JsonValue;
  /** Characters of JSON, about. */
  size: number;
}

/** A value that the cache does not have. */
export const missing = Symbol("missing");

/** Those used last, up to a number of bytes. Values are frozen, since many tasks see them. */
export class Cache {
  readonly #maxSize: number;
  #size = 0;
  /** In the order of their use. */
  readonly #values = new Map<string, Cached>();

  constructor(maxSize: number) {
    this.#maxSize = maxSize;
  }

  /** The value of a channel, which is remembered. */
  resolve({ version, value }: ChannelValue): JsonValue | undefined | typeof missing {
    switch (value.case) {
      case "whole": {
        const whole = freeze(valueOf(value.value) ?? null);
        const text = value.value.encoding;
        return this.#put(version, whole, text.case === "json" ? text.value.length : 1024);
      }
      case "unchanged":
        return this.#get(version)?.value ?? missing;
      case "appended": {
        const base = this.#get(value.value.base);
        const items = valueOf(value.value.items);
        const keep = Number(value.value.keep);
        if (!base || !Array.isArray(base.value) || !Array.isArray(items) || keep > base.value.length) return missing;
        const added = value.value.items?.encoding;
        const size = base.size + (added?.case === "json" ? added.value.length : 1024);
        for (const item of items) freeze(item);
        return this.#put(version, Object.freeze([...base.value.slice(0, keep), ...items]) as JsonValue, size);
      }
      default:
        return undefined;
    }
  }

  #get(version: string): Cached | undefined {
    const known = this.#values.get(version);
    if (known) {
      this.#values.delete(version);
      this.#values.set(version, known);
    }
    return known;
  }

  #put(version: string, value: JsonValue, size: number): JsonValue {
    if (!version || size > this.#maxSize) return value;
    this.#remove(version);
    this.#values.set(version, { value, size });
    this.#size += size;
    for (const oldest of this.#values.keys()) {
      if (this.#size <= this.#maxSize && this.#values.size <= maxValues) break;
      this.#remove(oldest);
    }
    return value;
  }

  #remove(version: string): void {
    this.#size -= this.#values.get(version)?.size ?? 0;
    this.#values.delete(version);
  }
}

/** Freezes a value and all that is in it. */
export function freeze(value: JsonValue): JsonValue {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    for (const item of Object.values(value)) freeze(item);
    Object.freeze(value);
  }
  return value;
}
