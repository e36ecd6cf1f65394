/** Converts messages to and from the types that callers see, by their descriptors. */
import { create, toJson, type DescEnum, type DescField, type DescMessage, type Message } from "@bufbuild/protobuf";
import {
  ValueSchema, timestampDate, timestampFromDate, type Duration, type FieldMask, type Timestamp,
} from "@bufbuild/protobuf/wkt";

import { RunloomError } from "./errors.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import { JsonSchema, type Json } from "./gen/runloom/v1/json_pb.js";
import type { JsonValue } from "./types.js";

type Fields = Record<string, unknown>;

/** A value as JSON text. `undefined` is JSON's null, as in an array. */
export function jsonOf(value: unknown, path = "value"): Json {
  const text = JSON.stringify(value ?? null);
  if (text === undefined) throw new TypeError(`${path}: a ${typeof value} is not JSON`);
  return create(JsonSchema, { encoding: { case: "json", value: text } });
}

/** The value of a Json; `undefined` for an absent one. */
export function valueOf(json: Json | undefined): JsonValue | undefined {
  switch (json?.encoding.case) {
    case "json":
      return JSON.parse(json.encoding.value) as JsonValue;
    case "value":
      return toJson(ValueSchema, json.encoding.value) as JsonValue;
    default:
      return undefined;
  }
}

/** Makes a message of what a caller wrote. Throws a TypeError that names the field that is wrong. */
export function encode(desc: DescMessage, init: unknown, path = ""): Message {
  if (typeof init !== "object" || init === null) throw new TypeError(`${path || desc.name}: expected an object`);
  const message = create(desc) as unknown as Fields;
  const from = init as Fields;
  const known = new Set<string>();
  for (const field of desc.fields) {
    known.add(field.localName);
    let value = from[field.localName];
    if (field.oneof) {
      known.add(field.oneof.localName);
      const group = from[field.oneof.localName] as { case?: string; value?: unknown } | undefined;
      if (group?.case === field.localName) value = group.value;
    }
    if (value === undefined) continue;
    const encoded = encodeField(field, value, path ? `${path}.${field.localName}` : field.localName);
    if (!field.oneof) message[field.localName] = encoded;
    else if ((message[field.oneof.localName] as { case?: string }).case === undefined) {
      message[field.oneof.localName] = { case: field.localName, value: encoded };
    } else throw new TypeError(`${path || desc.name}: only one of ${field.oneof.fields.map((f) => f.localName).join(", ")} can be set`);
  }
  for (const key of Object.keys(from)) {
    if (!known.has(key) && from[key] !== undefined) throw new TypeError(`${path || desc.name}: there is no field ${key}`);
  }
  return message as unknown as Message;
}

function encodeField(field: DescField, value: unknown, path: string): unknown {
  if (field.fieldKind === "list") {
    if (!Array.isArray(value)) throw new TypeError(`${path}: expected an array`);
    return value.map((item, i) => encodeOne(field, item, `${path}[${i}]`));
  }
  if (field.fieldKind === "map") {
    return Object.fromEntries(Object.entries(value as Fields).map(([key, item]) => [key, encodeOne(field, item, `${path}.${key}`)]));
  }
  return encodeOne(field, value, path);
}

function encodeOne(field: DescField, value: unknown, path: string): unknown {
  if (field.message) return encodeMessage(field.message, value, path);
  if (field.enum) return enumNumber(field.enum, value, path);
  return typeof value === "number" && is64Bit(field) ? BigInt(value) : value;
}

function encodeMessage(desc: DescMessage, value: unknown, path: string): unknown {
  switch (desc.typeName) {
    case "runloom.v1.Json":
      return jsonOf(value, path);
    case "google.protobuf.Timestamp":
      return timestampFromDate(value as Date);
    case "google.protobuf.Duration":
      return duration(desc, value as number);
    case "google.protobuf.FieldMask":
      return create(desc, { paths: value as string[] });
    case "google.rpc.Status":
      return undefined;
    default:
      return encode(desc, value, path);
  }
}

function duration(desc: DescMessage, milliseconds: number): Message {
  const seconds = Math.trunc(milliseconds / 1000);
  return create(desc, { seconds: BigInt(seconds), nanos: Math.round((milliseconds - seconds * 1000) * 1e6) });
}

function is64Bit(field: DescField): boolean {
  return /^(?:u?int64|s?fixed64|sint64)$/.test(scalarNames[(field as { scalar?: number }).scalar ?? 0] ?? "");
}

const scalarNames: Record<number, string> = { 3: "int64", 4: "uint64", 6: "fixed64", 16: "sfixed64", 18: "sint64" };

/** The names of enums are in lower case, but for reasons, which are written as in docs/errors.md. */
function enumName(desc: DescEnum, number: number): string {
  const name = desc.value[number]?.localName;
  if (name === undefined) return String(number);
  return desc.typeName === "runloom.v1.ErrorReason" ? name : name.toLowerCase();
}

function enumNumber(desc: DescEnum, name: unknown, path: string): number {
  const found = desc.values.find((value) => value.localName.toLowerCase() === String(name).toLowerCase());
  if (found) return found.number;
  const names = desc.values.slice(1).map((value) => enumName(desc, value.number));
  throw new TypeError(`${path}: "${String(name)}" is not one of ${names.join(", ")}`);
}

/** Makes what a caller sees of a message. */
export function decode(desc: DescMessage, message: Message): unknown {
  const from = message as unknown as Fields;
  const out: Fields = {};
  for (const field of desc.fields) {
    if (field.oneof) {
      const group = from[field.oneof.localName] as { case?: string; value?: unknown };
      if (group.case === field.localName) out[field.oneof.localName] = { case: group.case, value: decodeOne(field, group.value) };
      else if (group.case === undefined) out[field.oneof.localName] = { case: undefined };
      continue;
    }
    const value = from[field.localName];
    if (value === undefined) continue;
    out[field.localName] = decodeField(field, value);
  }
  return out;
}

function decodeField(field: DescField, value: unknown): unknown {
  if (field.fieldKind === "list") return (value as unknown[]).map((item) => decodeOne(field, item));
  if (field.fieldKind === "map") {
    return Object.fromEntries(Object.entries(value as Fields).map(([key, item]) => [key, decodeOne(field, item)]));
  }
  return decodeOne(field, value);
}

function decodeOne(field: DescField, value: unknown): unknown {
  if (field.message) return decodeMessage(field.message, value);
  if (field.enum) return enumName(field.enum, value as number);
  return typeof value === "bigint" ? Number(value) : value;
}

function decodeMessage(desc: DescMessage, value: unknown): unknown {
  switch (desc.typeName) {
    case "runloom.v1.Json":
      return valueOf(value as Json);
    case "google.protobuf.Timestamp":
      return timestampDate(value as Timestamp);
    case "google.protobuf.Duration":
      return Number((value as Duration).seconds) * 1000 + (value as Duration).nanos / 1e6;
    case "google.protobuf.FieldMask":
      return (value as FieldMask).paths;
    case "google.rpc.Status":
      return RunloomError.fromStatus(value as Status);
    default:
      return decode(desc, value as Message);
  }
}
