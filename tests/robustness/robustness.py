"""Servers on one Postgres under faults, and a checker of what must hold. README.md says what is done and checked."""
import argparse, collections, json, os, pathlib, random, signal, subprocess, sys, tempfile, threading, time

# Servers are started while calls are under way.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

import grpc  # noqa: E402

from postgres import Postgres, Proxy  # noqa: E402
from server import BINARY, free_port, wait_until_serving  # noqa: E402
from wire import kind, new_id, read, runs_pb2, runs_pb2_grpc, spec, stream_pb2, threads_pb2, threads_pb2_grpc  # noqa: E402
from runloom.v1 import crons_pb2, crons_pb2_grpc, run_pb2  # noqa: E402

LEASE, STEPS = 2.0, 30
WRITERS, READERS = 8, 8
# Longer than a run takes that nothing disturbs.
RUN = 3.0
GRAPH = f"""
runloom: v1
name: count
state:
  n: {{ schema: {{ type: integer }} }}
  log: {{ reducer: append }}
nodes:
  one: {{ steps: [ {{ emit: '{{"n": state.n}}' }}, {{ sleep_ms: 20 }}, {{ update: {{ n: 'state.n + 1', log: '[state.n]' }} }} ] }}
edges:
  - {{ from: START, to: one }}
  - {{ from: one, route: 'state.n < {STEPS} ? "one" : "END"', to: [one, END] }}
"""
# What a client tries again: the server or its store is not there now.
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN,
           grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}


class History:
    """What happened, in a file and in numbers."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.lock, self.begun = path.open("w"), threading.Lock(), time.monotonic()
        self.counts, self.faults, self.violations = collections.Counter(), collections.Counter(), []
        self.last_end, self.stall = time.monotonic(), 0.0

    def note(self, what, **fields):
        with self.lock:
            self.counts[what] += 1
            self.file.write(json.dumps({"at": round(time.monotonic() - self.begun, 3), "what": what, **fields}) + "\n")
            if what == "end":
                now = time.monotonic()
                self.stall, self.last_end = max(self.stall, now - self.last_end), now

    def fault(self, name, **fields):
        self.faults[name] += 1
        self.note("fault", name=name, **fields)
        print(f"{time.monotonic() - self.begun:7.1f} s  {name}", flush=True)

    def violation(self, text, **fields):
        self.note("violation", text=text, **fields)
        self.violations.append(text)
        print(f"VIOLATION {text}", flush=True)


class Server:
    """A process `runloom serve`, which reaches Postgres through a proxy of its own."""

    def __init__(self, postgres, graphs):
        self.proxy = Proxy(postgres.port)
        self.address, self.graphs, self.lines = f"127.0.0.1:{free_port()}", graphs, []
        url = f"postgres://owner@127.0.0.1:{self.proxy.port}/postgres"
        self.process = subprocess.Popen(
            [BINARY, "serve", "--grpc", self.address, "--http", "off", "--graphs", graphs, "--lease-ttl", f"{LEASE}s",
             "--drain-timeout", "1s", "--max-attempts", "1000", "--store-retry-window", "2s"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "RUNLOOM_STORE": url})
        threading.Thread(target=self._listen, daemon=True).start()
        wait_until_serving(self.process, self.address, self.output)

    def _listen(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def output(self):
        return "".join(self.lines[-200:])


class Cluster:
    def __init__(self, postgres, graphs):
        self.postgres, self.graphs = postgres, graphs
        self.servers = [Server(postgres, graphs) for _ in range(3)]

    def channel(self, chance):
        return grpc.insecure_channel(chance.choice(self.servers).address)

    def replace(self, old):
        new = Server(self.postgres, self.graphs)
        self.servers = [server for server in self.servers if server is not old] + [new]

    def stop(self):
        for server in self.servers:
            server.process.kill()


def join_to_the_end(cluster, chance, run, history, cursor="", seen=None):
    """The numbers of a run's parts, through as many connections as it takes, each to any server. None where time is over."""
    seen, ends = seen if seen is not None else [], 0
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with cluster.channel(chance) as channel:
            try:
                request = runs_pb2.JoinRunRequest(run_id=run, cursor=cursor)
                for part in runs_pb2_grpc.RunsStub(channel).JoinRun(request, timeout=20):
                    take(part, seen, run, history)
                    cursor = part.cursor or cursor
                    if kind(part) == "end":
                        return seen, part.end
            except grpc.RpcError as error:
                if error.code() not in PASSING:
                    history.violation(f"a join of {run} failed: {error.code()} {error.details()}")
                    return None
        history.note("reconnect")
        time.sleep(chance.uniform(0.05, 0.3))
    history.violation(f"run {run} has not ended after two minutes")
    return None


def take(part, seen, run, history):
    if part.seq:
        if seen and part.seq <= seen[-1]:
            history.violation(f"run {run}: part {part.seq} came after {seen[-1]}")
        seen.append(part.seq)


class Writers:
    """Create runs with request ids, repeat requests that got no answer, and follow the runs to their ends."""

    def __init__(self, cluster, history, seed):
        self.cluster, self.history, self.seed = cluster, history, seed
        self.stopping, self.runs, self.lock = threading.Event(), {}, threading.Lock()
        self.threads = [threading.Thread(target=self._write, args=(at,), daemon=True) for at in range(WRITERS)]
        self.threads += [threading.Thread(target=self._read, args=(at,), daemon=True) for at in range(READERS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _write(self, at):
        chance = random.Random(f"{self.seed} writer {at}")
        while not self.stopping.is_set():
            thread, request = new_id(), new_id()
            run = self._create(chance, thread, request)
            with self.lock:
                self.runs[run] = {"thread": thread, "request": request, "seen": None}
            self.history.note("create", run=run)
            followed = join_to_the_end(self.cluster, chance, run, self.history)
            if followed:
                self.history.note("end", run=run)
                self.runs[run]["seen"] = followed[0]

    def _create(self, chance, thread, request):
        while True:
            with self.cluster.channel(chance) as channel:
                made = spec("count", {"n": 0}, modes=["custom", "updates"], thread_id=thread, request_id=request)
                made.if_not_exists = run_pb2.IF_THREAD_NOT_EXISTS_CREATE
                try:
                    return runs_pb2_grpc.RunsStub(channel).CreateRun(runs_pb2.CreateRunRequest(run=made), timeout=10).run.run_id
                except grpc.RpcError as error:
                    if error.code() not in PASSING:
                        self.history.violation(f"a run was refused: {error.code()} {error.details()}")
            # It may have been created: the request id finds it.
            self.history.note("repeat", request=request)
            time.sleep(chance.uniform(0.05, 0.3))

    def _read(self, at):
        chance = random.Random(f"{self.seed} reader {at}")
        while not self.stopping.is_set():
            with self.lock:
                known = list(self.runs)[-20:]
            if known:
                run = chance.choice(known)
                if join_to_the_end(self.cluster, chance, run, self.history):
                    self.history.note("read", run=run)
            time.sleep(chance.uniform(0.05, 0.5))


class Faults:
    def __init__(self, cluster, history, seed, kinds):
        self.cluster, self.history = cluster, history
        self.chance, self.kinds = random.Random(f"{seed} faults"), kinds

    def go_on(self, until):
        while time.monotonic() < until:
            time.sleep(self.chance.uniform(2, 6))
            getattr(self, self.chance.choice(self.kinds))()

    def _any(self):
        return self.chance.choice(self.cluster.servers)

    def kill(self):
        server = self._any()
        self.history.fault("kill", server=server.address)
        server.process.kill()
        time.sleep(self.chance.uniform(0, 3))
        self.cluster.replace(server)

    def pause(self):
        server = self._any()
        self.history.fault("pause", server=server.address)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(LEASE * self.chance.uniform(1.2, 2.5))
        server.process.send_signal(signal.SIGCONT)

    def cut(self):
        server = self._any()
        self.history.fault("cut", server=server.address)
        server.proxy.cut()
        time.sleep(self.chance.uniform(0.5, LEASE * 2))
        server.proxy.heal()

    def restart(self):
        self.history.fault("restart")
        self.cluster.postgres.stop()
        time.sleep(self.chance.uniform(0, 2))
        self.cluster.postgres.start()

    def drain(self):
        server = self._any()
        self.history.fault("drain", server=server.address)
        self.cluster.replace(server)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)


def make_cron(cluster, history):
    """A cron that fires every second."""
    made = crons_pb2.Cron(schedule="* * * * * *", run=spec("count", {"n": STEPS - 1}))
    with grpc.insecure_channel(cluster.servers[0].address) as channel:
        request = crons_pb2.CreateCronRequest(cron=made)
        return crons_pb2_grpc.CronsStub(channel).CreateCron(request, timeout=10).cron.cron_id


def check(cluster, writers, cron, history, chance):
    with cluster.channel(chance) as channel:
        runs, threads = runs_pb2_grpc.RunsStub(channel), threads_pb2_grpc.ThreadsStub(channel)
        crons_pb2_grpc.CronsStub(channel).DeleteCron(crons_pb2.DeleteCronRequest(cron_id=cron), timeout=20)
        for run, known in writers.runs.items():
            parts = list(runs.JoinRun(runs_pb2.JoinRunRequest(run_id=run), timeout=60))
            numbers = [part.seq for part in parts if part.seq]
            ends = [at for at, part in enumerate(parts) if kind(part) == "end"]
            if ends != [len(parts) - 1]:
                history.violation(f"run {run} has {len(ends)} ends")
            elif stream_pb2.RunState.Name(parts[-1].end.state) != "RUN_STATE_SUCCEEDED":
                history.violation(f"run {run} ended as {parts[-1].end}")
            if numbers != sorted(set(numbers)):
                history.violation(f"run {run}: the numbers of its log do not grow")
            if known["seen"] is not None and not set(known["seen"]) <= set(numbers):
                lost = sorted(set(known["seen"]) - set(numbers))
                # What was sent and not yet stored may be lost with its server, at the end of an attempt.
                history.note("unstored", run=run, seqs=lost[:5])
            listed = runs.ListRuns(runs_pb2.ListRunsRequest(thread_id=known["thread"]), timeout=20).runs
            if len(listed) != 1:
                history.violation(f"request {known['request']} made {len(listed)} runs")
            state = threads.GetState(threads_pb2.GetStateRequest(thread_id=known["thread"]), timeout=20)
            log = read(state.checkpoint.values).get("log")
            if log != list(range(STEPS)):
                history.violation(f"run {run}: its steps are {log}")
        check_cron(runs, writers, history)


def check_cron(runs, writers, history):
    times, token = [], ""
    while True:
        page = runs.ListRuns(runs_pb2.ListRunsRequest(page_size=1000, page_token=token), timeout=30)
        times += [run.create_time.ToNanoseconds() for run in page.runs if run.run_id not in writers.runs]
        token = page.next_page_token
        if not token:
            break
    times.sort()
    history.counts["firings"] = len(times)
    if not times:
        history.violation("the cron never fired")
    # One that is late for a fault may come right before the next: what cannot be is more firings than times that were due.
    due = (times[-1] - times[0]) / 1e9 + 2
    if len(times) > due:
        history.violation(f"the cron fired {len(times)} times where {due:.0f} were due")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    parser.add_argument("--faults", default="kill,pause,cut,restart,drain")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    history = History(ROOT / "target" / "test-logs" / "robustness.jsonl")
    with tempfile.TemporaryDirectory(prefix="runloom-robust-") as home:
        home = pathlib.Path(home)
        graphs = home / "graphs"
        graphs.mkdir()
        (graphs / "count.yaml").write_text(GRAPH)
        postgres = Postgres(home)
        cluster = Cluster(postgres, graphs)
        writers = Writers(cluster, history, options.seed)
        try:
            cron = make_cron(cluster, history)
            history.last_end = time.monotonic()
            writers.start()
            Faults(cluster, history, options.seed, options.faults.split(",")).go_on(time.monotonic() + options.minutes * 60)
            healed = time.monotonic()
            print(f"{healed - history.begun:7.1f} s  no more faults", flush=True)
            writers.stop()
            settled = time.monotonic() - healed
            if settled > 2 * LEASE + RUN + 5:
                history.violation(f"after the last fault it took {settled:.1f} s until everything had ended")
            check(cluster, writers, cron, history, random.Random(options.seed))
        finally:
            writers.stopping.set()
            cluster.stop()
            postgres.stop()
    print(f"\nseed {options.seed}, {options.minutes:g} minutes")
    print("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(history.faults.items())))
    print("operations: " + ", ".join(f"{name} {count}" for name, count in sorted(history.counts.items()) if name != "fault"))
    print(f"longest time without an end of a run: {history.stall:.1f} s; after the last fault: {settled:.1f} s")
    print(f"{0 if history.violations else 1} passed, {len(history.violations)} failed")
    return 1 if history.violations else 0


if __name__ == "__main__":
    sys.exit(main())
