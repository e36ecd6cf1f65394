/** Runs: create, stream, join, wait, cancel. */
import { create } from "@bufbuild/protobuf";

import { newId, present, type CallOptions, type Core } from "./core.js";
import * as run from "./gen/runloom/v1/run_pb.js";
import * as runs from "./gen/runloom/v1/runs_pb.js";
import { RunStream } from "./stream.js";
import type { Init, Run, RunResult, RunSpec } from "./types.js";

export class Runs {
  readonly #core: Core;
  readonly #methods = runs.Runs.method;
  constructor(core: Core) {
    this.#core = core;
  }

  /** Creates a run and streams it to its end. Iterating again streams the same run from its start. */
  stream(spec: RunSpec, options: CallOptions = {}): RunStream {
    const request = this.#core.request(runs.StreamRunRequestSchema, { run: named(spec) });
    const { jsonEncoding, maxPartBytes } = request;
    return this.#stream({ runId: "", cursor: "" }, options, ({ runId, cursor }, signal) => {
      if (!runId) return this.#core.runs.streamRun(request, this.#core.connectOptions(signal));
      const join = create(runs.JoinRunRequestSchema, { runId, cursor, jsonEncoding, maxPartBytes });
      return this.#core.runs.joinRun(join, this.#core.connectOptions(signal));
    });
  }

  /** Streams an existing run to its end, from a cursor or from the start of its log. */
  join(runId: string, request: Omit<Init<runs.JoinRunRequest>, "runId"> = {}, options: CallOptions = {}): RunStream {
    const join = this.#core.request(runs.JoinRunRequestSchema, { ...request, runId });
    return this.#stream({ runId, cursor: join.cursor }, options, ({ cursor }, signal) =>
      this.#core.runs.joinRun({ ...join, cursor }, this.#core.connectOptions(signal)));
  }

  #stream(start: { runId: string; cursor: string }, options: CallOptions, open: ConstructorParameters<typeof RunStream>[0]): RunStream {
    return new RunStream(open, start, false, this.#core.retry, options.signal);
  }

  /** Creates a run in the background. */
  async create(spec: RunSpec, options?: CallOptions): Promise<Run> {
    return present((await this.#core.call(this.#methods.createRun, { run: named(spec) }, options)).run, "run");
  }

  /** Waits for the end of a new run, or of an existing one by its id. A run that failed is not an error: see `end`. */
  wait(target: RunSpec | string, options?: CallOptions): Promise<RunResult> {
    const request = typeof target === "string" ? { runId: target } : { run: named(target) };
    return this.#core.call(this.#methods.waitRun, request, options);
  }

  async get(runId: string, options?: CallOptions): Promise<Run> {
    return present((await this.#core.call(this.#methods.getRun, { runId }, options)).run, "run");
  }

  list(request: Init<runs.ListRunsRequest> = {}, options?: CallOptions): AsyncIterable<Run> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listRuns, { ...request, pageToken }, options);
      return { items: page.runs, nextPageToken: page.nextPageToken };
    });
  }

  /** Cancels a run. `wait` returns only when it has ended. */
  async cancel(runId: string, request: Omit<Init<runs.CancelRunRequest>, "runId"> = {}, options?: CallOptions): Promise<Run> {
    return present((await this.#core.call(this.#methods.cancelRun, { ...request, runId }, options)).run, "run");
  }

  /** Deletes a run that has ended, and its log. */
  async delete(runId: string, options?: CallOptions): Promise<void> {
    await this.#core.call(this.#methods.deleteRun, { runId }, options, { once: true });
  }
}

/** A run with a request id, so that its creation is safe to repeat. */
function named(spec: RunSpec): Init<run.RunSpec> {
  return { ...spec, requestId: spec.requestId || newId() };
}
