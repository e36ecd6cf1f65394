"""What schemathesis cannot know of the server: which ids and names there are. Without it nearly every request would end at "there is no such thread".

Ids are taken out of the answers and put into some of the requests; the others keep what was made up for them.
"""
import atexit, collections, json, os, pathlib, random, threading

import requests
import schemathesis

GRAPHS = os.environ["FUZZ_GRAPHS"].split(",")
NODES = ["echo", "fine", "bad", "ask_a", "ask_b", "done", "before", "child", "after", "three", "START", "END", "__start__", "__end__", "__input__"]
INPUTS = [None, {}, {"ms": 500}, {"given": 1}, {"count": 1}, {"count": 1 << 62}, {"words": ""}, {"words": "no"}, {"a": [], "b": None}, {"log": ["x"]}, {"log": 1}]
# The last one has seconds.
SCHEDULES = ["* * * * *", "0 0 29 2 *", "0 0 31 2 *", "@daily", "", "* * * * * 0,20,40"]
IDS = {"thread_id", "run_id", "assistant_id", "checkpoint_id", "cron_id"}
# Requests for what does not end by itself, and how long such a one is read.
ENDLESS, GLANCE = "/threads/{thread_id}/stream", 2
# The most seconds that a run is put off: one that waits for it would wait as long as it says.
PUT_OFF = 0.2
# A closed port of this machine.
WEBHOOK = "http://127.0.0.1:9/"
# A response that waits sends a sign of life every few seconds, so only a total limit finds one that never ends. None takes this long.
DEADLINE = 30

seen = collections.deque(maxlen=200)
events = collections.deque(maxlen=50)
timer = threading.Timer(0, lambda: None)
# How often each endpoint answered with which status, for `scripts/fuzz`.
answers = collections.Counter()
atexit.register(lambda: pathlib.Path(os.environ["FUZZ_ANSWERS"]).write_text(json.dumps(sorted(answers.items()))))


def gather(answer):
    """Keeps the ids that stand beside each other in an answer."""
    for value in answer if isinstance(answer, list) else answer.values() if isinstance(answer, dict) else ():
        gather(value)
    if isinstance(answer, dict) and (ids := {k: v for k, v in answer.items() if k in IDS and isinstance(v, str)}):
        seen.append(ids)


def known(name, among):
    """Ids of one answer, with this one among them where there is such an answer."""
    fitting = [ids for ids in among if name in ids]
    return random.choice(fitting) if fitting else {}


def fill(body):
    """Puts names that there are into a body."""
    if not isinstance(body, dict):
        return
    if isinstance(body.get("after_seconds"), (int, float)) and body["after_seconds"] > PUT_OFF:
        body["after_seconds"] = PUT_OFF
    if isinstance(body.get("webhook"), str):
        body["webhook"] = WEBHOOK
    for name in IDS & body.keys():
        if random.random() < 0.8:
            body[name] = random.choice(GRAPHS) if name == "assistant_id" else known(name, list(seen)).get(name, body[name])
    for name, some in {"graph_id": GRAPHS, "as_node": NODES, "input": INPUTS, "schedule": SCHEDULES}.items():
        if name in body and random.random() < 0.8:
            body[name] = random.choice(some)
    for name in ("interrupt_before", "interrupt_after"):
        if body.get(name) and random.random() < 0.5:
            body[name] = random.sample(NODES, 2)
    for name, single in {"run_ids": "run_id", "thread_ids": "thread_id"}.items():
        if isinstance(body.get(name), list) and random.random() < 0.8:
            body[name] = [ids[single] for ids in list(seen)[-3:] if single in ids]
    fill(body.get("checkpoint"))


def under_way():
    """The ids of a run that takes long enough to be cancelled, joined or deleted meanwhile."""
    ask = lambda path, body: requests.post(os.environ["FUZZ_URL"] + path, json=body, timeout=10).json()
    thread = ask("/threads", {})["thread_id"]
    return {"thread_id": thread, "run_id": ask(f"/threads/{thread}/runs", {"assistant_id": "steps", "input": {"ms": 500}})["run_id"]}


def hangs(case):
    print(f"\nno answer after {DEADLINE} s:\n\n    {case.as_curl_command()}\n", flush=True)
    os._exit(3)


@schemathesis.hook
def before_call(context, case, kwargs):
    for body in case.body if isinstance(case.body, list) else [case.body]:
        fill(body)
    if case.path_parameters and random.random() < (0.1 if case.path == ENDLESS else 0.8):
        if "run_id" in case.path_parameters:
            among = under_way() if random.random() < 0.3 else known("run_id", list(seen))
        else:
            among = known(min(case.path_parameters), list(seen))
        case.path_parameters.update({name: among[name] for name in case.path_parameters.keys() & among.keys()})
    if case.query and "last_event_id" in case.query and events and random.random() < 0.8:
        case.query["last_event_id"] = random.choice(list(events))
    if case.path == ENDLESS:
        kwargs["timeout"] = GLANCE
    global timer
    timer.cancel()
    timer = threading.Timer(DEADLINE, hangs, [case])
    timer.daemon = True
    timer.start()


@schemathesis.hook
def after_call(context, case, response):
    timer.cancel()
    answers[f"{case.method.upper()} {case.path} {response.status_code}"] += 1
    kind = (response.headers.get("content-type") or [""])[0]
    if kind.startswith("application/json"):
        try:
            gather(json.loads(response.content))
        except ValueError:
            pass
    elif kind.startswith("text/event-stream"):
        events.extend(line[3:].strip().decode() for line in response.content.splitlines() if line.startswith(b"id:"))
