"""Graphs of the kinds that LangGraph's documentation has, each with the inputs of a conversation."""
import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.config import get_store, get_stream_writer
from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.managed import RemainingSteps
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition
from langgraph.runtime import Runtime
from langgraph.types import Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict


class Scripted(BaseChatModel):
    """Answers with the next response for each AI message in the prompt, word by word."""

    responses: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self

    def _next(self, messages):
        n = sum(m.type == "ai" for m in messages)
        response = self.responses[n % len(self.responses)]
        content, calls = response if isinstance(response, tuple) else (response, [])
        return content, calls, f"msg-{n}-{len(messages)}"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        content, calls, id = self._next(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=content, tool_calls=calls, id=id))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        content, calls, id = self._next(messages)
        pieces = [AIMessageChunk(content=word, id=id) for word in content.split(" ") if word]
        for n, call in enumerate(calls):
            args = str(call["args"]).replace("'", '"')
            piece = {"name": call["name"], "args": args, "id": call["id"], "index": n}
            pieces.append(AIMessageChunk(content="", id=id, tool_call_chunks=[piece]))
        for piece in pieces:
            chunk = ChatGenerationChunk(message=piece)
            if run_manager:
                run_manager.on_llm_new_token(piece.content, chunk=chunk)
            yield chunk


def call(tool, id, **args):
    return {"name": tool, "args": args, "id": id, "type": "tool_call"}


@dataclass
class Scenario:
    """A graph, and what is sent to it on one thread."""

    graph: Any
    inputs: list[Any]
    context: Any = None
    interrupt_before: list[str] = field(default_factory=list)
    # Modes that are not compared, with the reason.
    skip: dict[str, str] = field(default_factory=dict)


class Messages(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def human(text, id="h1"):
    return {"messages": [{"role": "user", "content": text, "id": id}]}


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def react_agent():
    model = Scripted(responses=[("let me look", [call("get_weather", "c1", city="Wien")]), "it is sunny"])
    return Scenario(create_react_agent(model, [get_weather]), [human("weather?"), human("again?", "h2")])


def agent_with_middleware():
    model = Scripted(responses=[("let me look", [call("get_weather", "c1", city="Wien")]), "it is sunny"])
    middleware = HumanInTheLoopMiddleware(interrupt_on={"get_weather": True})
    approve = Command(resume={"decisions": [{"type": "approve"}]})
    return Scenario(create_agent(model, [get_weather], middleware=[middleware]), [human("weather?"), approve])


def chatbot():
    model = Scripted(responses=["hello there my friend"])

    async def bot(state: Messages):
        return {"messages": [await model.ainvoke(state["messages"])]}

    return Scenario(StateGraph(Messages).add_node(bot).add_edge(START, "bot").compile(), [human("hi")])


def map_reduce():
    class State(TypedDict):
        words: list[str]
        lengths: Annotated[list[int], operator.add]
        total: int

    def split(state: State):
        return {"words": [*state["words"], "more"]}

    def count(given):
        return {"lengths": [len(given["word"])]}

    def fan_out(state: State):
        return [Send("count", {"word": word}) for word in state["words"]]

    def total(state: State):
        return {"total": sum(state["lengths"])}

    builder = StateGraph(State).add_node(split).add_node(count).add_node(total)
    builder.add_edge(START, "split").add_conditional_edges("split", fan_out, ["count"]).add_edge("count", "total")
    return Scenario(builder.compile(), [{"words": ["a", "bcd"]}])


def subgraph_interrupt():
    class State(TypedDict):
        topic: str
        draft: str
        log: Annotated[list[str], operator.add]

    def write(state: State):
        return {"topic": state["topic"].upper(), "draft": f"on {state['topic']}", "log": ["written"]}

    def review(state: State):
        answer = interrupt({"draft": state["draft"]})
        return {"draft": f"{state['draft']}: {answer}", "log": ["reviewed"]}

    inner = StateGraph(State).add_node(write).add_node(review).add_edge(START, "write").add_edge("write", "review").compile()
    builder = StateGraph(State).add_node("prepare", lambda state: {"log": ["prepared"]}).add_node("editing", inner)
    builder.add_node("publish", lambda state: {"log": ["published"]})
    builder.add_edge(START, "prepare").add_edge("prepare", "editing").add_edge("editing", "publish")
    return Scenario(builder.compile(), [{"topic": "tea"}, Command(resume="fine")])


def human_in_the_loop():
    @tool
    def book_hotel(name: str) -> str:
        """Books a hotel."""
        answer = interrupt({"book": name})
        return f"booked {name}" if answer["ok"] else f"not booked: {answer['why']}"

    model = Scripted(responses=[("", [call("book_hotel", "c1", name="Sacher")]), "done as you said"])

    def agent(state: Messages):
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(Messages).add_node(agent).add_node("tools", ToolNode([book_hotel]))
    builder.add_edge(START, "agent").add_conditional_edges("agent", tools_condition).add_edge("tools", "agent")
    return Scenario(builder.compile(), [human("book"), Command(resume={"ok": True})])


def supervisor():
    class State(TypedDict):
        task: str
        log: Annotated[list[str], operator.add]

    def worker(name, following):
        def work(state: State):
            return Command(graph=Command.PARENT, goto=following, update={"log": [f"{name} did {state['task']}"]})

        return StateGraph(State).add_node("work", work).add_edge(START, "work").compile()

    def lead(state: State) -> Command[Literal["research", "write", "__end__"]]:
        done = len(state["log"])
        return Command(goto=["research", "write", END][done // 2], update={"log": [f"lead at {done}"]})

    builder = StateGraph(State).add_node(lead)
    builder.add_node("research", worker("research", "lead"), destinations=("lead",))
    builder.add_node("write", worker("write", "lead"), destinations=("lead",))
    return Scenario(builder.add_edge(START, "lead").compile(), [{"task": "tea", "log": []}])


def retry_and_error_handler():
    class State(TypedDict):
        log: Annotated[list[str], operator.add]

    tries = {}

    def flaky(state: State, runtime: Runtime):
        key = runtime.execution_info.task_id
        tries[key] = tries.get(key, 0) + 1
        if tries[key] < 3:
            raise ConnectionError("down")
        return {"log": ["up"]}

    def broken(state: State):
        raise ValueError("broken for good")

    def recover(state: State, error: NodeError):
        return {"log": [f"{error.node}: {type(error.error).__name__}"]}

    policy = RetryPolicy(max_attempts=3, initial_interval=0.01, retry_on=ConnectionError)
    builder = StateGraph(State).add_node(flaky, retry_policy=policy)
    builder.add_node(broken, retry_policy=policy, error_handler=recover)
    graph = builder.add_edge(START, "flaky").add_edge("flaky", "broken").compile()
    return Scenario(graph, [{"log": []}], skip={"tasks": "LangGraph does not report the start of an error handler"})


def custom_reducer():
    def longest(left: str, right: str) -> str:
        return max(left, right, key=len)

    class State(TypedDict):
        best: Annotated[str, longest]

    builder = StateGraph(State).add_node("a", lambda state: {"best": "aa"}).add_node("b", lambda state: {"best": "bbbb"})
    return Scenario(builder.add_edge(START, "a").add_edge(START, "b").compile(), [{"best": "c"}])


def streaming_tool():
    @tool
    async def search(query: str) -> str:
        """Searches."""
        writer = get_stream_writer()
        for n in range(3):
            writer({"progress": n, "query": query})
        return "found"

    model = Scripted(responses=[("searching", [call("search", "c1", query="tea")]), "here it is"])
    return Scenario(create_react_agent(model, [search]), [human("search")])


def memory():
    @dataclass
    class Context:
        user: str

    def remember(state: Messages, runtime: Runtime[Context]):
        runtime.store.put(("memories", runtime.context.user), state["messages"][-1].id, {"text": state["messages"][-1].content})
        return {}

    async def recall(state: Messages, runtime: Runtime[Context]):
        found = await get_store().asearch(("memories", runtime.context.user))
        return {"messages": [AIMessage(", ".join(item.value["text"] for item in found), id=f"a-{len(found)}")]}

    builder = StateGraph(Messages, context_schema=Context).add_node(remember).add_node(recall)
    builder.add_edge(START, "remember").add_edge("remember", "recall")
    return Scenario(builder.compile(), [human("I like tea"), human("and cake", "h2")], context={"user": "ada"})


def deferred():
    class State(TypedDict):
        log: Annotated[list[str], operator.add]

    def step(name):
        return lambda state: {"log": [name]}

    builder = StateGraph(State)
    for name in ("a", "b", "b2", "c"):
        builder.add_node(name, step(name))
    builder.add_node("d", lambda state: {"log": [f"after {len(state['log'])}"]}, defer=True)
    builder.add_edge(START, "a").add_edge("a", "b").add_edge("a", "c").add_edge("b", "b2").add_edge("b2", "d").add_edge("c", "d")
    return Scenario(builder.compile(), [{"log": []}])


def dynamic_breakpoints():
    class State(TypedDict):
        text: str
        log: Annotated[list[str], operator.add]

    def check(state: State):
        if len(state["text"]) > 5:
            interrupt(f"{state['text']} is longer than 5")
        return {"log": ["checked"]}

    builder = StateGraph(State).add_node("first", lambda state: {"log": ["first"]}).add_node(check)
    builder.add_node("last", lambda state: {"log": ["last"]})
    builder.add_edge(START, "first").add_edge("first", "check").add_edge("check", "last")
    return Scenario(builder.compile(interrupt_before=["last"]), [{"text": "too long"}, Command(resume="go on"), None])


def join_and_two_questions():
    class State(TypedDict):
        log: Annotated[list[str], operator.add]

    def ask(name):
        def node(state: State):
            return {"log": [f"{name}: {interrupt(name + '?')} {interrupt(name + '??')}"]}

        return node

    builder = StateGraph(State).add_node("a", ask("a")).add_node("b", lambda state: {"log": ["b"]})
    builder.add_node("end", lambda state: {"log": ["end"]})
    builder.add_edge(START, "a").add_edge(START, "b").add_edge(["a", "b"], "end")
    return Scenario(builder.compile(), [{"log": []}, Command(resume=1), Command(resume=2)])


def node_runs_graph():
    """A node that runs a graph itself, with a model and custom data in it."""
    model = Scripted(responses=["inner words"])

    async def bot(state: Messages):
        get_stream_writer()({"inner": True})
        return {"messages": [await model.ainvoke(state["messages"])]}

    inner = StateGraph(Messages).add_node(bot).add_edge(START, "bot").compile()

    async def outer(state: Messages):
        found = await inner.ainvoke({"messages": state["messages"]})
        return {"messages": found["messages"][-1:]}

    skip = {
        "messages": "the namespace of a piece has the inner task",
        "custom": "it is sent as the outer node's, so that readers without subgraphs have it",
        "tasks": "they are shown as the outer task's",
        "checkpoints": "the graph in the node has none",
    }
    return Scenario(StateGraph(Messages).add_node(outer).add_edge(START, "outer").compile(), [human("hi")], skip=skip)


class Item(BaseModel):
    name: str
    n: int = 1


def objects():
    class State(TypedDict):
        items: Annotated[list[Item], operator.add]
        tags: set[str]
        left: RemainingSteps

    def add(state: State):
        assert all(isinstance(item, Item) for item in state["items"]) and state["left"] > 0
        return {"items": [Item(name="new", n=len(state["items"]))], "tags": {"x"}}

    def check(state: State):
        assert isinstance(state["tags"], set) and isinstance(state["items"][-1], Item)
        return {"items": [Item(name=next(iter(state["tags"])))]}

    builder = StateGraph(State).add_node(add).add_node(check).add_edge(START, "add").add_edge("add", "check")
    return Scenario(builder.compile(), [{"items": [Item(name="given")]}])


def loop_with_route():
    class State(TypedDict):
        n: Annotated[int, operator.add]

    def again(state: State) -> Literal["step", "__end__"]:
        return "step" if state["n"] < 3 else END

    builder = StateGraph(State).add_node("step", lambda state: {"n": 1}).add_edge(START, "step")
    return Scenario(builder.add_conditional_edges("step", again).compile(), [{"n": 0}])


def entry_route():
    class State(TypedDict):
        kind: str
        log: Annotated[list[str], operator.add]

    builder = StateGraph(State).add_node("a", lambda state: {"log": ["a"]}).add_node("b", lambda state: {"log": ["b"]})
    builder.add_conditional_edges(START, lambda state: state["kind"], {"a": "a", "b": "b"})
    return Scenario(builder.compile(), [{"kind": "b"}])


def tool_message_and_state():
    """A tool that returns a command, with the state injected."""
    from langchain_core.tools import InjectedToolCallId
    from langgraph.prebuilt import InjectedState

    class State(Messages):
        user: str

    @tool
    def rename(name: str, state: Annotated[dict, InjectedState], tool_call_id: Annotated[str, InjectedToolCallId]) -> Command:
        """Renames the user."""
        text = f"{state['user']} is {name}"
        return Command(update={"user": name, "messages": [ToolMessage(text, tool_call_id=tool_call_id, id="t1")]})

    model = Scripted(responses=[("", [call("rename", "c1", name="bob")]), "renamed"])

    def agent(state: State):
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(State).add_node(agent).add_node("tools", ToolNode([rename]))
    builder.add_edge(START, "agent").add_conditional_edges("agent", tools_condition).add_edge("tools", "agent")
    return Scenario(builder.compile(), [{**human("rename me"), "user": "ada"}])


REFUSED = {"custom_reducer"}
SCENARIOS = {
    made.__name__: made
    for made in (
        react_agent, agent_with_middleware, chatbot, map_reduce, subgraph_interrupt, human_in_the_loop, supervisor,
        retry_and_error_handler, custom_reducer, streaming_tool, memory, deferred, dynamic_breakpoints, join_and_two_questions,
        node_runs_graph, objects, loop_with_route, entry_route, tool_message_and_state,
    )
}  # fmt: skip
