#!/usr/bin/env python3
"""Plays the scenarios of this folder: drive.py, and steps for what drive.py has no step of. Its arguments are drive.py's.

    call:  { part: threads, do: search, of: […], with: {…} }   any method of any of the client's parts
    http:  { method, path, body, headers }          a bare request: what comes back is `{status, body}`, and the headers named in `show`; `first: 3`
                                                    reads so many events of a stream that does not end
    until: { call: {…}, has: {…} }                  asks again until the answer holds `has`

In each, `$thread.t`, `$run.r`, `$assistant.a` and `$kept.name.0.checkpoint` stand for what earlier steps were given; `as` keeps
an answer, `pick` leaves only these of it (`status`, `values.messages.0.type`).

A step that is known to differ stands in pending.yaml with the reason: it is not counted as a fault while it differs.
"""
from __future__ import annotations

import asyncio
import json
import pathlib
import re
import sys

import httpx
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import drive

REFERENCE = re.compile(r"\$(thread|run|assistant|kept)\.([\w-]+)((?:\.[\w-]+)*)")
NOTHING = "00000000-0000-4000-8000-000000000000"
theirs = drive.one_step


def resolve(names, match):
    """What a reference stands for; an id of nothing where the name is not known."""
    table, name, path = match.groups()
    if table != "kept": return names.of(getattr(names, table), name)
    value = names.kept.get(name)
    value = at(value, path.split(".")[1:])
    return NOTHING if value is None else value


def filled(names, a):
    if isinstance(a, dict): return {k: filled(names, v) for k, v in a.items()}
    if isinstance(a, list): return [filled(names, v) for v in a]
    if not isinstance(a, str): return a
    if whole := REFERENCE.fullmatch(a): return resolve(names, whole)
    return REFERENCE.sub(lambda m: str(resolve(names, m)), a)


def picked(answer, keys):
    if keys is None or answer is None: return answer
    if isinstance(answer, list): return [picked(a, keys) for a in answer]
    return {k: at(answer, k.split(".")) for k in keys} if isinstance(answer, dict) else answer


def at(value, path):
    for part in path:
        if isinstance(value, list): value = value[int(part)] if int(part) < len(value) else None
        else: value = value.get(part) if isinstance(value, dict) else None
    return value


async def call(client, a):
    try:
        made = getattr(getattr(client, a["part"]), a["do"])(*a.get("of", []), **a.get("with", {}))
        return await drive.stream_parts(made) if hasattr(made, "__aiter__") else await made
    except (AttributeError, KeyError, TypeError) as fault:  # a step written wrong is no answer
        raise SystemExit(f"{a}: {fault!r}") from fault


async def http(client, a):
    url = str(client.http.client.base_url).rstrip("/") + a["path"]
    async with httpx.AsyncClient(timeout=30) as plain:
        body = {"content": a["raw"]} if "raw" in a else {"json": a["body"]} if "body" in a else {}
        headers = {"content-type": "application/json", **a.get("headers", {})}
        if "first" in a: return await first_events(plain, a["method"], url, headers, a["first"])
        response = await plain.request(a["method"], url, headers=headers, **body)
    kind = response.headers.get("content-type", "").split(";")[0]
    answer = {"status": response.status_code}
    if kind == "text/event-stream": answer["body"] = events(response.text)
    elif kind == "application/json" and response.status_code < 400: answer["body"] = response.json()
    for header in a.get("show", []): answer[header] = response.headers.get(header)
    return answer


async def first_events(plain, method, url, headers, count):
    """So many events of a stream that does not end."""
    text = ""
    async with plain.stream(method, url, headers=headers) as response:
        async for piece in response.aiter_text():
            text += piece
            whole = events(text.replace("\r\n", "\n").rpartition("\n\n")[0])
            if len(whole) >= count: return {"status": response.status_code, "body": whole[:count]}
    return {"status": response.status_code, "body": events(text)}


def events(text):
    """The events of a stream, without their ids: those are each server's own."""
    parts = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if fields.get("event", "end") != "end": parts.append({"event": fields["event"], "data": json.loads(fields.get("data") or "null")})
    return parts


def holds(answer, has):
    if isinstance(has, dict): return isinstance(answer, dict) and all(holds(answer.get(k), v) for k, v in has.items())
    return answer == has


def keep(names, a, answer):
    name = a.get("as")
    if not name: return
    names.kept[name] = answer
    for table in ("thread", "run", "assistant"):
        if isinstance(answer, dict) and f"{table}_id" in answer: getattr(names, table).setdefault(name, answer[f"{table}_id"])


async def one_step(client, names, step):
    op = next(iter(step))
    if op not in ("call", "http", "until"): return await theirs(client, names, step)
    a = filled(names, step[op])
    if op == "until":
        while not holds(await call(client, a["call"]), a["has"]): await asyncio.sleep(0.05)
        return None
    answer = await (call if op == "call" else http)(client, a)
    keep(names, a, answer)
    return picked(answer, a.get("pick"))


def named(folder):
    for name, scenario in their_scenarios(folder): yield name, {"name": name, **scenario}


def compare(scenario, want, got):
    """The faults, without those that are known; what is known and no fault any more is one."""
    known = PENDING.get(scenario["name"], {})
    faults = {int(re.match(r"step (\d+)", f)[1]): f for f in their_compare(scenario, want, got)}
    for step, reason in known.items():
        if step in faults:
            print(f"pend {scenario['name']} step {step}: {reason}")
            met.append(step)
    return [f for i, f in faults.items() if i not in known] + [f"step {i}: agrees now; take it out of pending.yaml" for i, reason in known.items() if i not in faults and not reason.startswith("at times")]


PENDING = yaml.safe_load((pathlib.Path(__file__).resolve().parent / "pending.yaml").read_text()) or {}
met = []  # the pending steps that differed
their_compare, their_scenarios = drive.compare, drive.scenarios

if __name__ == "__main__":
    drive.compare, drive.scenarios = compare, named
    drive.one_step = one_step
    failed = asyncio.run(drive.main())
    if met: print(f"of these, {len(met)} steps are pending: they differ, and are known to")
    sys.exit(failed)
