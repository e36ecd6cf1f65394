"""Makes `runloom.db` beside this file, by the release of Runloom whose database has schema 3.

    python make.py PATH_OF_THAT_RUNLOOM_BINARY

Needs langgraph-sdk. The server is killed with SIGKILL in the middle of the run of `count`.
"""

import asyncio
import json
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

from langgraph_sdk import get_client

HERE = pathlib.Path(__file__).parent


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def fill(url: str) -> dict:
    client = get_client(url=url)
    modes = ["values", "updates", "messages", "custom", "events", "tasks"]

    async def run(graph: str, given: dict, metadata: dict) -> tuple[str, str]:
        thread = (await client.threads.create(metadata=metadata))["thread_id"]
        made = await client.runs.create(thread, graph, input=given, stream_mode=modes)
        return thread, made["run_id"]

    chat = await run("chat", {"messages": [{"role": "human", "content": "Hi"}]}, {"user": "ada"})
    await client.runs.join(*chat)
    ask = await run("ask", {"name": "ada"}, {"user": "ada"})
    await client.runs.join(*ask)
    await client.store.put_item(["users", "ada"], "likes", {"tea": True})
    cron = await client.crons.create("count", schedule="0 3 1 1 *", input={"n": 39})
    assistant = await client.assistants.create("chat", name="Second", metadata={"team": "a"})
    count = await run("count", {"n": 0}, {"user": "bob"})
    while len((await client.threads.get_state(count[0]))["values"].get("log", [])) < 5:
        await asyncio.sleep(0.02)
    return {
        "chat": dict(zip(("thread_id", "run_id"), chat)),
        "ask": dict(zip(("thread_id", "run_id"), ask)),
        "count": dict(zip(("thread_id", "run_id"), count)),
        "cron_id": cron["cron_id"],
        "assistant_id": assistant["assistant_id"],
    }


def main() -> None:
    port, grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen(
            [sys.argv[1], "serve", "--graphs", HERE / "graphs", "--data", data]
            + ["--grpc", f"127.0.0.1:{grpc}", "--http", f"127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ok")
                    break
                except OSError:
                    time.sleep(0.1)
            ids = asyncio.run(fill(f"http://127.0.0.1:{port}"))
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()
        # The write-ahead log belongs to the database: put it in, so that there is one file.
        with sqlite3.connect(f"{data}/runloom.db") as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert database.execute("PRAGMA user_version").fetchone() == (3,)
        database.close()
        shutil.copy(f"{data}/runloom.db", HERE / "runloom.db")
    (HERE / "ids.json").write_text(json.dumps(ids, indent=2) + "\n")


main()
