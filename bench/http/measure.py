#!/usr/bin/env python3
"""Measures a server of LangGraph's API from outside: `measure.py WHAT URL SECONDS` prints one object of JSON. `bench/http/run` asks both sides with it.

Only the plain protocol is spoken, and a stream is cut at its empty lines and no further, so that the client takes little of what it measures.
"""
import asyncio, json, statistics, sys, time

import aiohttp
import uvloop

# A server that is silent for so long has failed.
PATIENCE = aiohttp.ClientTimeout(total=None, sock_read=60)


class Client:
    def __init__(self, session, url):
        self.session, self.url = session, url

    async def post(self, path, body):
        async with self.session.post(self.url + path, json=body) as answer:
            text = await answer.text()
            if answer.status >= 300:
                sys.exit(f"{self.url}{path} answered {answer.status}: {text[:500]}")
            return json.loads(text)

    async def wait(self, graph, **given):
        """A run on a thread of its own, until it has given what it gives."""
        values = await self.post("/runs/wait", {"assistant_id": graph, "input": given})
        if values.get("n") != given["n"] + 1:
            sys.exit(f"{self.url}: {graph} gave {values} for {given}")

    async def stream(self, path, body):
        """The events of a run's stream: the second at which each was there, its name, and all its bytes."""
        async with self.session.post(self.url + path, json=body) as answer:
            if answer.status >= 300:
                sys.exit(f"{self.url}{path} answered {answer.status}: {(await answer.text())[:500]}")
            rest = b""
            async for chunk in answer.content.iter_any():
                now = time.perf_counter()
                *events, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
                for event in events:
                    name = event[6:event.find(b"\n")].strip() if event.startswith(b"event:") else b""
                    if name == b"error":
                        sys.exit(f"{self.url}{path}: {event.decode()}")
                    yield now, name.decode(), event


async def first_update(client, seconds):
    """The milliseconds from a request for a stream to its first update, on a thread that is there; one run after the other."""
    times, until = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < until:
        thread = (await client.post("/threads", {}))["thread_id"]
        begin, at = time.perf_counter(), None
        async for now, name, _ in client.stream(f"/threads/{thread}/runs/stream", {"assistant_id": "one", "input": {"n": 1}, "stream_mode": "updates"}):
            at = at or (name == "updates" and now)
        times.append((at - begin) * 1e3)
    return {"value": statistics.median(times), "worst": max(times), "runs": len(times)}


def runs(clients):
    async def measure(client, seconds):
        """Runs per second, where so many clients each ask for the next run when they have the last one's answer."""
        begin, done = time.perf_counter(), 0

        async def one():
            nonlocal done
            while time.perf_counter() < begin + seconds:
                await client.wait("one", n=done)
                done += 1

        await asyncio.gather(*(one() for _ in range(clients)))
        return {"value": done / (time.perf_counter() - begin), "runs": done}

    return measure


async def per_second(client, seconds, graph, mode, given, wanted):
    """How quickly the events of one stream come: those after the first read, by the time since. The median of its runs."""
    rates, sizes, until = [], [], time.perf_counter() + seconds
    while not rates or time.perf_counter() < until:
        body = {"assistant_id": graph, "input": given, "stream_mode": mode, "config": {"recursion_limit": 10_000}}
        times, size = [], 0
        async for now, name, event in client.stream("/runs/stream", body):
            if name == wanted:
                times.append(now)
                size += len(event) + 2
        later = sum(at > times[0] for at in times)
        if not later:
            sys.exit(f"{client.url}: all {len(times)} events of {graph} came in one read; let it have more of them")
        rates.append(later / (times[-1] - times[0]))
        sizes.append(size / len(times))
    return {"value": statistics.median(rates), "events": len(times), "bytes": statistics.median(sizes), "runs": len(rates)}


async def tokens(client, seconds):
    """Tokens per second of one stream, and the bytes of each."""
    given = {"messages": [{"role": "user", "content": "go"}]}
    found = await per_second(client, seconds, "tokens", "messages-tuple", given, "messages")
    if found["events"] < 1999:
        sys.exit(f"{client.url}: {found['events']} tokens")
    return found


async def supersteps(client, seconds):
    """Supersteps per second of one stream."""
    found = await per_second(client, seconds, "steps", "updates", {"n": 0, "wanted": 1000}, "updates")
    if found["events"] != 1000:
        sys.exit(f"{client.url}: {found['events']} supersteps")
    return found


async def waiting(client, _seconds):
    """The seconds until a hundred runs, asked for at once, have waited two seconds each."""
    begin = time.perf_counter()
    await asyncio.gather(*(client.wait("wait", n=i) for i in range(100)))
    return {"value": time.perf_counter() - begin, "runs": 100}


WHAT = {
    "first_update": first_update, "runs_1": runs(1), "runs_10": runs(10), "runs_50": runs(50), "tokens": tokens, "supersteps": supersteps,
    "waiting": waiting,
}


async def main():
    what, url, seconds = sys.argv[1:]
    async with aiohttp.ClientSession(timeout=PATIENCE, connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(session, url)
        await client.wait("one", n=0)  # to warm up: the connection, and what a server does at its first run
        before = time.process_time()
        found = await WHAT[what](client, float(seconds))
        print(json.dumps({**found, "client_processor_seconds": time.process_time() - before}))


if __name__ == "__main__":
    uvloop.run(main())
