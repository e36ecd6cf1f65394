#!/usr/bin/env python3
"""Runs the shapes of LangGraph's own benchmarks in LangGraph, as `bench/run` asks line by line.

A request is a line of JSON, `{"shape": "sequential_1000", "checkpointer": "none", "seconds": 0.5, "loop": "async"}`; the answer is
one too: the milliseconds of every run, and of a first one off the clock how many parts its stream had and what they weighed.
Only the public API is used. The same shapes in Rust: `engine/src/shapes`.
"""
import asyncio, json, operator, random, sys, time, typing, uuid, warnings
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Optional

import uvloop
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(seed, count):
    """The letters of a seed: the same on both sides, so that no random number is in what is compared."""
    return [LETTERS[(i * 7 + seed * 11 + i // 26) % 26] for i in range(count)]


def weigh(value):
    """What an update weighs: the characters of all its texts, and one for every other scalar and list."""
    match value:
        case str(): return len(value)
        case list(): return 1 + sum(map(weigh, value))
        case AIMessage(): return weigh(value.content) + sum(weigh(c["args"]) for c in value.tool_calls)
        case BaseMessage(): return weigh(value.content)
        case dict(): return sum(map(weigh, value.values()))
        case _: return 1


def sequential(nodes, is_async):
    """N nodes in a row that do nothing, over a list of messages."""
    def noop(state: MessagesState) -> None:
        pass

    async def anoop(state: MessagesState) -> None:
        pass

    graph = StateGraph(MessagesState)
    before = START
    for i in range(nodes):
        name = f"node_{i}"
        graph.add_node(name, anoop if is_async else noop)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph.compile(), {"messages": []}


class InTurn(FakeMessagesListChatModel):
    """Gives its answers in turn."""

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        answer = self.responses[self.i].model_copy()
        self.i = (self.i + 1) % len(self.responses)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def react_agent(calls, is_async):
    """A model that calls a tool N times and then answers: LangGraph's prebuilt agent."""
    from langgraph.prebuilt import create_react_agent

    tool = StructuredTool.from_function(
        lambda query: f"result for query: {query}" * 10, name="0b54d2f1-7c41-4f0e-9f0b-6f1f3c8d2a55", description="")
    def text(seed):
        return "".join(letters(seed, 36))

    def call(i):
        made = {"id": text(i), "name": tool.name, "args": {"query": text(i + 1000) * 100}}
        return AIMessage(content="", tool_calls=[made], id=str(uuid.uuid4()))

    model = InTurn(responses=[call(i) for i in range(calls)] + [AIMessage(content="answer" * 100, id=str(uuid.uuid4()))])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that langchain has one too
        return create_react_agent(model, [tool]), {"messages": [HumanMessage("hi?")]}


class Overall(TypedDict):
    subjects: list
    jokes: Annotated[list[str], operator.add]


class JokeInput(TypedDict):
    subject: str


class JokeOutput(TypedDict):
    jokes: list[str]


class Joke(JokeInput, JokeOutput):
    pass


def fanout_to_subgraph(subjects, is_async):
    """N Sends into a subgraph of a dozen steps each."""
    def edit(state: JokeInput):
        return {"subject": f"{state['subject']} - hohoho"}

    def generate(state: JokeInput):
        return {"jokes": [f"Joke about {state['subject']}"]}

    def bump(state: JokeOutput):
        return {"jokes": [state["jokes"][0] + " a"]}

    def again(state: JokeOutput):
        return END if state["jokes"][0].endswith(" a" * 10) else "bump"

    def each(state: Overall):
        return [Send("generate_joke", {"subject": s}) for s in state["subjects"]]

    def either(work):
        """The same as a coroutine function, where the run is to be one."""
        if not is_async:
            return work

        async def awork(state):
            return work(state)
        awork.__name__, awork.__annotations__ = work.__name__, work.__annotations__
        return awork

    joke = StateGraph(Joke, input_schema=JokeInput, output_schema=JokeOutput)
    for work in (edit, generate, bump):
        joke.add_node(work.__name__, either(work))
    joke.add_edge(START, "edit")
    joke.add_edge("edit", "generate")
    joke.add_edge("generate", "bump")
    joke.add_edge("generate", END)
    joke.add_conditional_edges("bump", either(again))
    graph = StateGraph(Overall)
    graph.add_node("generate_joke", joke.compile())
    graph.add_conditional_edges(START, either(each))
    graph.add_edge("generate_joke", END)
    return graph.compile(), {"subjects": [letters(i, 1000) for i in range(subjects)]}


def truthy(held, new):
    return new or held


def given(held, new):
    return new if new is not None else held


@dataclass(kw_only=True)
class Wide:
    messages: Annotated[list, operator.add] = field(default_factory=list)
    trigger_events: Annotated[list, operator.add] = field(default_factory=list)
    primary_issue_medium: Annotated[str, truthy] = "email"
    autoresponse: Annotated[Optional[dict], lambda _, new: new] = None
    issue: Annotated[Optional[dict], truthy] = None
    relevant_rules: Optional[list] = None
    memory_docs: Optional[list] = None
    categorizations: Annotated[list, operator.add] = field(default_factory=list)
    responses: Annotated[list, operator.add] = field(default_factory=list)
    user_info: Annotated[Optional[dict], given] = None
    crm_info: Annotated[Optional[dict], given] = None
    email_thread_id: Annotated[Optional[str], given] = None
    slack_participants: Annotated[dict, operator.or_] = field(default_factory=dict)
    bot_id: Optional[str] = None
    notified_assignees: Annotated[dict, operator.or_] = field(default_factory=dict)


LISTS = {"messages", "trigger_events", "categorizations", "responses", "memory_docs", "relevant_rules"}
OBJECTS = {"user_info", "crm_info", "slack_participants", "notified_assignees", "autoresponse", "issue"}


def wide_state(most, is_async):
    """Fifteen channels with nearly as many reducers, six nodes in a loop until the messages are more than N."""
    def read_write(read, write, state: Wide):
        value = getattr(state, read)
        single = value[-1] if isinstance(value, list) else value
        many = value if isinstance(value, list) else [value]
        return {k: many if k in LISTS else single if k in OBJECTS else "".join(random.choices(LETTERS, k=most)) for k in write}

    async def aread_write(read, write, state: Wide):
        return read_write(read, write, state)

    graph = StateGraph(Wide)
    for name, read, write in (
        ("one", "messages", ["trigger_events", "primary_issue_medium"]),
        ("two", "trigger_events", ["autoresponse", "issue"]),
        ("three", "autoresponse", ["relevant_rules"]),
        ("four", "trigger_events", ["categorizations", "responses", "memory_docs"]),
        ("five", "categorizations",
         ["user_info", "crm_info", "email_thread_id", "slack_participants", "bot_id", "notified_assignees"]),
        ("six", "responses", ["messages"]),
    ):
        graph.add_node(name, partial(aread_write if is_async else read_write, read, write))
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", "three")
    graph.add_edge("two", "four")
    graph.add_edge(["three", "four"], "five")
    graph.add_edge("five", "six")
    graph.add_conditional_edges("six", lambda state: END if len(state.messages) > most else "one")
    scalars = ["hi?" * 10, True, 1, 6327816386138, None] * 5
    message = {str(i) * 10: {str(j) * 10: list(scalars) for j in range(5)} for i in range(5)}
    return graph.compile(), {"messages": [message]}


@cache
def shape(name, is_async):
    """A shape by its name: a compiled graph and the input of a run."""
    kind, _, size = name.rpartition("_")
    size = int(size.removesuffix("x").rpartition("x")[2])
    makers = {"sequential": sequential, "react_agent": react_agent, "fanout_to_subgraph": fanout_to_subgraph, "wide_state": wide_state}
    return makers[kind](size, is_async)


def runs(graph, given, kept, is_async, runner):
    """A run from its input to its last part, as a function that gives the parts or their number."""
    options = {} if kept == "none" else {"durability": "exit" if kept == "exit" else "async"}

    async def acount(config):
        parts = 0
        async for _ in graph.astream(given, config, **options):
            parts += 1
        return parts

    def count(config):
        parts = 0
        for _ in graph.stream(given, config, **options):
            parts += 1
        return parts

    async def alist(config):
        return [part async for part in graph.astream(given, config, **options)]

    def config():
        # A checkpointer of its own for each run, made and dropped off the clock.
        graph.checkpointer = None if kept == "none" else InMemorySaver()
        return {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": 1_000_000_000}

    if is_async:
        return config, lambda c: runner.run(acount(c)), lambda c: runner.run(alist(c))
    return config, count, lambda c: list(graph.stream(given, c, **options))


def measure(request, runner):
    """Runs a shape for so many seconds, twice at least; the first run is not counted."""
    is_async = request["loop"] == "async"
    graph, given = shape(request["shape"], is_async)
    config, count, collect = runs(graph, given, request["checkpointer"], is_async, runner)
    until = time.perf_counter() + request["seconds"]
    parts = collect(config())
    answer = {"ms": [], "parts": len(parts), "weight": sum(map(weigh, parts))}
    del parts
    while not answer["ms"] or time.perf_counter() < until:
        given_config = config()
        start = time.perf_counter()
        parts = count(given_config)
        answer["ms"].append((time.perf_counter() - start) * 1e3)
        assert parts == answer["parts"]
    return answer


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    for line in sys.stdin:
        print(json.dumps(measure(json.loads(line), runner)), flush=True)
