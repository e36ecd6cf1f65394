/** The client: the services of the API in the words of TypeScript. */
import type { Transport } from "@connectrpc/connect";

import { Core, newId, present, type CallOptions, type ClientOptions } from "./core.js";
import * as assistants from "./gen/runloom/v1/assistants_pb.js";
import * as crons from "./gen/runloom/v1/crons_pb.js";
import * as graphs from "./gen/runloom/v1/graphs_pb.js";
import * as store from "./gen/runloom/v1/store_pb.js";
import * as workers from "./gen/runloom/v1/workers_pb.js";
import { sleep } from "./retry.js";
import { Runs } from "./runs.js";
import { Threads } from "./threads.js";
import type { Assistant, AssistantGraph, AssistantSchemas, AttachedWorker, Cron, Graph, Init, Item, RegisteredGraph, WorkerList } from "./types.js";

/**
 * A client of a server. Calls that are safe to repeat are repeated if the server is temporarily unavailable. It makes an id for each new run, thread,
 * assistant and cron, so that creating them is safe to repeat. Made by `connect`.
 */
export class Client {
  readonly runs: Runs;
  readonly threads: Threads;
  readonly assistants: Assistants;
  readonly crons: Crons;
  readonly graphs: Graphs;
  readonly store: Store;
  readonly workers: Workers;
  readonly #core: Core;
  readonly #close: () => void;

  constructor(transport: Transport, options: ClientOptions = {}, close = () => {}) {
    this.#core = new Core(transport, options);
    this.#close = close;
    this.runs = new Runs(this.#core);
    this.threads = new Threads(this.#core);
    this.assistants = new Assistants(this.#core);
    this.crons = new Crons(this.#core);
    this.graphs = new Graphs(this.#core);
    this.store = new Store(this.#core);
    this.workers = new Workers(this.#core);
  }

  /** An item store with the rights of a worker's task. */
  storeOf(itemToken: string): Store {
    return itemToken ? new Store(this.#core.withHeaders({ "runloom-item-token": itemToken })) : this.store;
  }

  /** Closes the connection. */
  close(): void {
    this.#close();
  }
}

/** Assistants: graphs with a configuration, a context and metadata, in versions. */
export class Assistants {
  readonly #core: Core;
  readonly #methods = assistants.Assistants.method;
  constructor(core: Core) {
    this.#core = core;
  }

  async create(request: Init<assistants.CreateAssistantRequest>, options?: CallOptions): Promise<Assistant> {
    const named = request.assistantId ? request : { ...request, assistantId: newId(), ifExists: "return" as const };
    const once = named.ifExists !== "return";
    return present((await this.#core.call(this.#methods.createAssistant, named, options, { once })).assistant, "assistant");
  }

  async get(assistantId: string, options?: CallOptions): Promise<Assistant> {
    return present((await this.#core.call(this.#methods.getAssistant, { assistantId }, options)).assistant, "assistant");
  }

  /** Creates a new version, which becomes the latest. Without an `updateMask` all fields that are set change. */
  async update(assistantId: string, changes: Omit<Init<assistants.Assistant>, "assistantId">, options: CallOptions & { updateMask?: string[] } = {}): Promise<Assistant> {
    const request: Init<assistants.UpdateAssistantRequest> = { assistant: { ...changes, assistantId } };
    if (options.updateMask) request.updateMask = options.updateMask;
    return present((await this.#core.call(this.#methods.updateAssistant, request, options, { once: true })).assistant, "assistant");
  }

  async delete(assistantId: string, options?: CallOptions): Promise<void> {
    await this.#core.call(this.#methods.deleteAssistant, { assistantId }, options, { once: true });
  }

  list(request: Init<assistants.ListAssistantsRequest> = {}, options?: CallOptions): AsyncIterable<Assistant> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listAssistants, { ...request, pageToken }, options);
      return { items: page.assistants, nextPageToken: page.nextPageToken };
    });
  }

  versions(assistantId: string, options?: CallOptions): AsyncIterable<Assistant> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listAssistantVersions, { assistantId, pageToken }, options);
      return { items: page.versions, nextPageToken: page.nextPageToken };
    });
  }

  async setLatestVersion(assistantId: string, version: number, options?: CallOptions): Promise<Assistant> {
    return present((await this.#core.call(this.#methods.setLatestAssistantVersion, { assistantId, version }, options)).assistant, "assistant");
  }

  graph(assistantId: string, request: { subgraphDepth?: number } = {}, options?: CallOptions): Promise<AssistantGraph> {
    return this.#core.call(this.#methods.getAssistantGraph, { assistantId, ...request }, options);
  }

  schemas(assistantId: string, request: { includeSubgraphs?: boolean } = {}, options?: CallOptions): Promise<AssistantSchemas> {
    return this.#core.call(this.#methods.getAssistantSchemas, { assistantId, ...request }, options);
  }
}

/** Crons: runs on a schedule. */
export class Crons {
  readonly #core: Core;
  readonly #methods = crons.Crons.method;
  constructor(core: Core) {
    this.#core = core;
  }

  async create(cron: Init<crons.Cron>, options?: CallOptions): Promise<Cron> {
    const request = { cron: { ...cron, cronId: cron.cronId || newId() } };
    return present((await this.#core.call(this.#methods.createCron, request, options)).cron, "cron");
  }

  async get(cronId: string, options?: CallOptions): Promise<Cron> {
    return present((await this.#core.call(this.#methods.getCron, { cronId }, options)).cron, "cron");
  }

  async update(cronId: string, changes: Omit<Init<crons.Cron>, "cronId">, options: CallOptions & { updateMask?: string[] } = {}): Promise<Cron> {
    const request: Init<crons.UpdateCronRequest> = { cron: { ...changes, cronId } };
    if (options.updateMask) request.updateMask = options.updateMask;
    return present((await this.#core.call(this.#methods.updateCron, request, options)).cron, "cron");
  }

  async delete(cronId: string, options?: CallOptions): Promise<void> {
    await this.#core.call(this.#methods.deleteCron, { cronId }, options, { once: true });
  }

  list(request: Init<crons.ListCronsRequest> = {}, options?: CallOptions): AsyncIterable<Cron> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listCrons, { ...request, pageToken }, options);
      return { items: page.crons, nextPageToken: page.nextPageToken };
    });
  }
}

/** Graphs: what the server can run. */
export class Graphs {
  readonly #core: Core;
  readonly #methods = graphs.Graphs.method;
  constructor(core: Core) {
    this.#core = core;
  }

  list(request: Init<graphs.ListGraphsRequest> = {}, options?: CallOptions): AsyncIterable<Graph> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listGraphs, { ...request, pageToken }, options);
      return { items: page.graphs, nextPageToken: page.nextPageToken };
    });
  }

  /** Registers a graph document in YAML or JSON, or a new revision of it. */
  register(document: string, request: { validateOnly?: boolean } = {}, options?: CallOptions): Promise<RegisteredGraph> {
    return this.#core.call(this.#methods.registerGraph, { document, ...request }, options);
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    await this.#core.call(this.#methods.deleteGraph, { name }, options, { once: true });
  }
}

/** The item store: what outlives a thread, by namespace and key. */
export class Store {
  readonly #core: Core;
  readonly #methods = store.Store.method;
  constructor(core: Core) {
    this.#core = core;
  }

  /** Writes an item: an object. `ttl` is in milliseconds. */
  async put(namespace: string[], key: string, value: unknown, request: { ttl?: number } = {}, options?: CallOptions): Promise<void> {
    await this.#core.call(this.#methods.putItem, { namespace, key, value, ...request }, options);
  }

  /** Reads an item; `undefined` if it does not exist or has expired. */
  async get(namespace: string[], key: string, request: { keepExpireTime?: boolean } = {}, options?: CallOptions): Promise<Item | undefined> {
    return (await this.#core.call(this.#methods.getItem, { namespace, key, ...request }, options)).item;
  }

  async delete(namespace: string[], key: string, options?: CallOptions): Promise<void> {
    await this.#core.call(this.#methods.deleteItem, { namespace, key }, options);
  }

  search(namespacePrefix: string[], request: Omit<Init<store.SearchItemsRequest>, "namespacePrefix"> = {}, options?: CallOptions): AsyncIterable<Item> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.searchItems, { ...request, namespacePrefix, pageToken }, options);
      return { items: page.items, nextPageToken: page.nextPageToken };
    });
  }

  namespaces(request: Init<store.ListNamespacesRequest> = {}, options?: CallOptions): AsyncIterable<string[]> {
    return this.#core.pages(async (pageToken) => {
      const page = await this.#core.call(this.#methods.listNamespaces, { ...request, pageToken }, options);
      return { items: page.namespaces.map(({ names }) => names), nextPageToken: page.nextPageToken };
    });
  }
}

/** The attached workers, and the queues of tasks. */
export class Workers {
  readonly #core: Core;
  readonly #methods = workers.Workers.method;
  constructor(core: Core) {
    this.#core = core;
  }

  /** A page of workers; the first one has the queues. */
  list(request: Init<workers.ListWorkersRequest> = {}, options?: CallOptions): Promise<WorkerList> {
    return this.#core.call(this.#methods.listWorkers, request, options);
  }

  /** Waits until a worker of a queue is attached, and the graphs that it brings are registered. */
  async waitFor(queue: string, options: CallOptions = {}): Promise<void> {
    for (let delay = 5; (await this.list({ queue, pageSize: 1 }, options)).workers.length === 0; delay = Math.min(2 * delay, 1000)) {
      await sleep(delay, options.signal);
    }
  }

  async get(workerId: string, options?: CallOptions): Promise<AttachedWorker> {
    return present((await this.#core.call(this.#methods.getWorker, { workerId }, options)).worker, "worker");
  }
}
