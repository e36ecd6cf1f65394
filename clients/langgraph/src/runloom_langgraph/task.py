"""One task: a node of a LangGraph graph, run under the configuration that LangGraph's own loop prepares for it."""
from __future__ import annotations

import uuid
from collections import OrderedDict, deque
from functools import partial
from typing import Any

import runloom
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import merge_configs, patch_config
from langgraph._internal._constants import (
    CONFIG_KEY_CALL,
    CONFIG_KEY_CHECKPOINT_ID,
    CONFIG_KEY_CHECKPOINT_MAP,
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_CHECKPOINTER,
    CONFIG_KEY_NODE_ERROR,
    CONFIG_KEY_READ,
    CONFIG_KEY_READ_STATE,
    CONFIG_KEY_RUNTIME,
    CONFIG_KEY_SCRATCHPAD,
    CONFIG_KEY_SEND,
    CONFIG_KEY_STREAM,
    CONFIG_KEY_TASK_ID,
    TASKS,
)
from langgraph._internal._scratchpad import PregelScratchpad
from langgraph.errors import GraphInterrupt, NodeError, ParentCommand
from langgraph.pregel._algo import LazyAtomicCounter, PregelTaskWrites, _proc_input, local_read
from langgraph.pregel._checkpoint import channels_from_checkpoint, empty_checkpoint
from langgraph.pregel._retry import _should_retry_on
from langgraph.pregel.main import _coerce_context
from langgraph.pregel.protocol import StreamProtocol
from langgraph.runtime import ExecutionInfo, Runtime
from langgraph.types import Command, Send
from runloom import Context, TaskError
from runloom.worker import Interrupted

from .callbacks import Emitter, StreamingEmitter
from .document import Document, policies_of
from .store import RunloomStore
from .values import Codec, decode, encode, readable

BRANCH = "branch:to:"
NESTED = {"updates", "values", "custom", "tasks", "checkpoints"}


class Served:
    """A graph whose nodes are served here."""

    def __init__(self, document: Document) -> None:
        self.name, self.graph = document.name, document.graph
        self.builder = self.graph.builder
        self.codecs = {key: Codec(channel) for key, channel in self.builder.channels.items()}
        # Where the edges of a node lead in any case: those are the server's.
        self.static: dict[str, set[str]] = {}
        for source, target in self.builder.edges:
            self.static.setdefault(source, set()).add(target)
        # The failures that error handlers of this process may get, by run, step and node.
        self.failures: OrderedDict[tuple[str, int, str], BaseException] = OrderedDict()

    async def node(self, node: str, given: Any, context: Context) -> Any:
        """Runs a node. Returns its writes and where it goes."""
        proc = self.graph.nodes[node]
        state = context.state if context.state else given if not context.is_send else {}
        setup = Setup(self, node, state, context)
        try:
            if context.is_send:
                value = decode(given)
            else:
                value = _proc_input(
                    proc, setup.managed, setup.channels, for_execution=True, scratchpad=setup.scratchpad, input_cache=None
                )
            config = setup.config(proc)
            try:
                await proc.node.ainvoke(value, config)
            except ParentCommand as raised:
                command = raised.args[0]
                if command.graph not in (setup.namespace, node):
                    return self._to_parent(command)
                for writer in proc.flat_writers:
                    await writer.ainvoke(command, config)
        except GraphInterrupt as interrupt:
            raise asked(interrupt, context) from interrupt
        except Exception as error:
            raise self._failure(node, error, context) from error
        return self._outcome(node, setup.writes)

    async def route(self, source: str, branch: Any, given: Any, context: Context) -> list[str | runloom.Send]:
        """Decides a conditional edge that does not follow a node of this worker."""
        setup = Setup(self, source, given, context)
        schema = branch.input_schema or (
            self.builder.nodes[source].input_schema if source in self.builder.nodes else self.builder.state_schema
        )
        value = local_read(setup.scratchpad, setup.channels, setup.managed, setup.task(()), list(self.builder.schemas[schema]))
        mapper = self.graph.schema_to_mapper.get(schema)
        found = await branch.path.ainvoke(mapper(value) if mapper else value, setup.config(None))
        results = list(found) if isinstance(found, (list, tuple)) else [found]
        ends = branch.ends
        return [send(one) if isinstance(one, Send) else ends[one] if ends else one for one in results]

    def _outcome(self, node: str, writes: Any) -> Any:
        """The writes of a task: those of channels as updates, those that lead to nodes as targets."""
        updates: list[dict[str, Any]] = [{}]
        goto: list[str | runloom.Send] = []
        static = self.static.get(node, set())
        for channel, value in writes:
            if channel == TASKS:
                goto.append(send(value))
            elif channel.startswith(BRANCH):
                target = channel.removeprefix(BRANCH)
                if target not in static and target not in goto:
                    goto.append(target)
            elif channel in self.codecs:
                identify(value)
                if channel in updates[-1]:
                    updates.append({})
                updates[-1][channel] = self.codecs[channel].encode(value)
        found: Any = updates if len(updates) > 1 else updates[0] or None
        return runloom.Command(update=found, goto=goto) if goto else found

    def _to_parent(self, command: Command[Any]) -> runloom.Command:
        """A command for the graph that contains this one."""
        update: dict[str, Any] = {key: encode(value) for key, value in command._update_as_tuples()}
        targets = [command.goto] if isinstance(command.goto, (str, Send)) else command.goto
        return runloom.Command(update or None, [send(t) if isinstance(t, Send) else t for t in targets], parent=True)

    def _failure(self, node: str, error: Exception, context: Context) -> BaseException:
        """The failure of a task, and whether the node's policies try it again."""
        spec = self.builder.nodes[node]
        if spec.error_handler_node:
            self.failures[context.run_id, context.step, spec.error_handler_node] = error
            while len(self.failures) > 1000:
                self.failures.popitem(last=False)
        policies = policies_of(spec.retry_policy or self.graph.retry_policy)
        if not policies:
            return error
        matching = next((policy for policy in policies if _should_retry_on(policy, error)), None)
        retries = matching is not None and context.try_ < matching.max_attempts
        return TaskError(str(error), type=type(error).__name__, retry=retries)


class Setup:
    """What LangGraph's loop prepares for a task."""

    def __init__(self, served: Served, node: str, state: dict[str, Any], context: Context) -> None:
        self.served, self.node, self.context = served, node, context
        metadata = context.config.get("metadata") or {}
        own = f"{node}:{context.task_id}"
        self.namespace = str(metadata.get("langgraph_checkpoint_ns") or "|".join([*context.namespace, own]))
        checkpoint = empty_checkpoint()
        for key, value in state.items():
            if key in served.codecs:
                checkpoint["channel_values"][key] = served.codecs[key].decode(value)
        self.channels, self.managed = channels_from_checkpoint(served.graph.channels, checkpoint)
        self.checkpoint = checkpoint
        self.writes: deque[tuple[str, Any]] = deque()
        self.scratchpad = scratchpad(context)
        self.triggers = tuple(metadata.get("langgraph_triggers") or ())
        self.path = tuple(metadata.get("langgraph_path") or ())

    def task(self, writes: Any) -> PregelTaskWrites:
        return PregelTaskWrites(self.path[:3], self.node, writes, self.triggers)

    def config(self, proc: Any) -> RunnableConfig:
        """The configuration of the task."""
        context, served = self.context, self.served
        runtime = self._runtime()
        given = context.config
        base: RunnableConfig = {
            "tags": list(given.get("tags") or ()),
            "metadata": dict(given.get("metadata") or {}),
            "recursion_limit": given.get("recursion_limit") or 25,
            "configurable": {**(given.get("configurable") or {}), "thread_id": context.thread_id, "run_id": context.run_id},
        }
        if served.graph.config:
            base = merge_configs(served.graph.config, base)
        if proc is not None:
            base = merge_configs(base, {"metadata": {**(proc.metadata or {})}, "tags": proc.tags})
        streams = not context.modes or bool(context.modes & {"messages", "events"})
        emitter = (StreamingEmitter if streams else Emitter)(context, self.namespace)
        configurable: dict[str, Any] = {
            CONFIG_KEY_TASK_ID: context.task_id,
            CONFIG_KEY_SEND: self.writes.extend,
            CONFIG_KEY_READ: partial(local_read, self.scratchpad, self.channels, self.managed, self.task(self.writes)),
            CONFIG_KEY_READ_STATE: None,
            CONFIG_KEY_CHECKPOINTER: None,
            CONFIG_KEY_CHECKPOINT_MAP: {"|".join(context.namespace): self.checkpoint["id"]},
            CONFIG_KEY_CHECKPOINT_ID: None,
            CONFIG_KEY_CHECKPOINT_NS: self.namespace,
            CONFIG_KEY_SCRATCHPAD: self.scratchpad,
            CONFIG_KEY_RUNTIME: runtime,
            CONFIG_KEY_STREAM: StreamProtocol(self._nested, set(context.modes) & NESTED),
            CONFIG_KEY_CALL: no_calls,
        }
        if context.is_send and proc is not None and context.state:
            configurable[CONFIG_KEY_READ_STATE] = partial(
                _proc_input, proc, self.managed, self.channels, for_execution=True, scratchpad=self.scratchpad, input_cache=None
            )
        spec = served.builder.nodes.get(self.node)
        if spec is not None and spec.is_error_handler:
            failed = next((key for key, one in served.builder.nodes.items() if one.error_handler_node == self.node), "")
            error = served.failures.pop((context.run_id, context.step, self.node), None)
            configurable[CONFIG_KEY_NODE_ERROR] = NodeError(node=failed, error=error or failure_elsewhere(context))
        return patch_config(base, run_name=self.node, callbacks=[emitter], configurable=configurable)

    def _runtime(self) -> Runtime[Any]:
        context, graph = self.context, self.served.graph
        return Runtime(
            context=_coerce_context(graph.context_schema, context.context or None),
            store=RunloomStore(context.store, context.sync_store),
            stream_writer=self._write,
            heartbeat=context.heartbeat,
            execution_info=ExecutionInfo(
                checkpoint_id=self.checkpoint["id"],
                checkpoint_ns=self.namespace,
                task_id=context.task_id,
                thread_id=context.thread_id,
                run_id=context.run_id,
                node_attempt=context.try_,
            ),
        )

    def _write(self, data: Any) -> None:
        """`get_stream_writer()`."""
        self.context.emit(readable(data))

    def _nested(self, part: tuple[tuple[str, ...], str, Any]) -> None:
        """A part of a graph that the node runs itself."""
        namespace, mode, payload = part
        inside = list(namespace)[len(self.namespace.split("|")) - 1 :]
        if mode in NESTED:
            self.context.nested_part(inside[1:] if inside[:1] == [self.namespace.split("|")[-1]] else inside, mode, readable(payload))


def scratchpad(context: Context) -> PregelScratchpad:
    """The task's scratchpad, with the answers given so far. Those of a graph inside the task take them in order."""
    waiting = deque(context.answers)
    direct = any(answer is None for answer in context.answers)

    def null_resume(consume: bool = False) -> Any:
        if direct or not waiting:
            return None
        return waiting.popleft() if consume else waiting[0]

    return PregelScratchpad(
        step=context.step,
        stop=context.step + context.remaining_steps,
        call_counter=LazyAtomicCounter(),
        interrupt_counter=LazyAtomicCounter(),
        get_null_resume=null_resume,
        resume=list(context.answers) if direct else [],
        subgraph_counter=LazyAtomicCounter(),
    )


def asked(interrupt: GraphInterrupt, context: Context) -> Interrupted:
    """The questions of a task."""
    known = len(context.answers)
    found = interrupt.args[0] if interrupt.args else ()
    return Interrupted([{"index": known + n, "value": readable(one.value)} for n, one in enumerate(found)])


def send(packet: Send) -> runloom.Send:
    return runloom.Send(packet.node, encode(packet.arg))


def failure_elsewhere(context: Context) -> Exception:
    """The exception of a node that failed in another process: its type has the same name, and its message."""
    known = context.error
    return type(known.type, (Exception,), {})(known.message) if known is not None else Exception("the node failed")


def identify(value: Any) -> None:
    """Gives messages without an id one, so that the stream, the update and the state have the same."""
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(one, BaseMessage) and one.id is None:
            one.id = str(uuid.uuid4())


def no_calls(function: Any, *given: Any, **options: Any) -> Any:
    name = getattr(function, "__name__", "task")
    raise NotImplementedError(f"@task {name!r}: tasks of the functional API cannot be served; call a plain function")
