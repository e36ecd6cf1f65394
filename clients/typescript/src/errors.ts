/** Errors of calls and runs, by reason. */
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import type { Reason } from "./types.js";

/** A missing or invalid field of a request. */
export interface FieldViolation {
  /** Its path: `run.config.recursion_limit`. */
  field: string;
  /** The error. */
  description: string;
}

interface Details {
  code: Code;
  message: string;
  details: { type: string; value: Uint8Array }[];
  cause?: unknown;
}

/** The error of a call, or of a run (`end.error`, `run.error`). */
export class RunloomError extends Error {
  /** The gRPC status code. */
  readonly code: Code;
  /** Why it failed. `undefined` if the error does not come from Runloom: a broken connection, or a proxy. */
  readonly reason?: Reason;
  /** The details of the reason. Example: `thread_id`. */
  readonly metadata: Readonly<Record<string, string>> = {};
  /** All missing or invalid fields of the request. */
  readonly violations: readonly FieldViolation[] = [];
  /** The delay in milliseconds that the server names for a retry. */
  readonly retryDelay?: number;

  private constructor({ code, message, details, cause }: Details) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "RunloomError";
    this.code = code;
    for (const { type, value } of details) {
      if (type === "google.rpc.ErrorInfo") {
        const info = fromBinary(ErrorInfoSchema, value);
        if (info.domain === "runloom.dev") [this.reason, this.metadata] = [info.reason as Reason, info.metadata];
      } else if (type === "google.rpc.BadRequest") {
        this.violations = fromBinary(BadRequestSchema, value).fieldViolations.map(({ field, description }) => ({ field, description }));
      } else if (type === "google.rpc.RetryInfo") {
        const delay = fromBinary(RetryInfoSchema, value).retryDelay;
        if (delay) this.retryDelay = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
      }
    }
    const fields = this.violations.map(({ field, description }) => `; ${field}: ${description}`);
    this.message = `${message} (${this.reason ?? Code[code]})${fields.join("")}`;
  }

  /** Converts what a call threw. An AbortError of the caller's signal is thrown on as it is. */
  static from(error: unknown, signal?: AbortSignal): Error {
    if (error instanceof RunloomError) return error;
    if (signal?.aborted) return abortError(signal);
    const { code, rawMessage, details } = ConnectError.from(error);
    const raw = details.flatMap((detail) => ("type" in detail && detail.value instanceof Uint8Array ? [{ type: detail.type, value: detail.value }] : []));
    return new RunloomError({ code, message: rawMessage, details: raw, cause: error });
  }

  /** Converts the error of a run. */
  static fromStatus(status: Status): RunloomError {
    const details = status.details.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value }));
    return new RunloomError({ code: status.code as Code, message: status.message, details });
  }

  /** An error of the connection. */
  static broken(message: string): RunloomError {
    return new RunloomError({ code: Code.Unavailable, message, details: [] });
  }

  /** Whether an error has a reason: `if (RunloomError.is(error, "THREAD_BUSY"))`. */
  static is(error: unknown, reason: Reason): error is RunloomError {
    return error instanceof RunloomError && error.reason === reason;
  }

  /** The cursor to join again, if the error ended a stream. */
  get cursor(): string | undefined {
    return this.metadata["cursor"];
  }

  /** The oldest cursor of the log, for CURSOR_EXPIRED. */
  get oldestCursor(): string | undefined {
    return this.metadata["oldest_cursor"];
  }

  /** Whether the failure is temporary: the server named a delay, or the connection broke. The call may have had an effect. */
  get isTransient(): boolean {
    const broken = this.reason === undefined && [Code.Unknown, Code.Internal, Code.Canceled, Code.Aborted].includes(this.code);
    return broken || this.code === Code.Unavailable || this.retryDelay !== undefined;
  }
}

/** What a call throws whose signal was aborted. */
export function abortError(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new DOMException("This operation was aborted", "AbortError");
}
