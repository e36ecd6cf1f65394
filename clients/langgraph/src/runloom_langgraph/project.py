"""`runloom-langgraph langgraph.json`: serves the graphs of a project's own file."""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import os
import pathlib
import sys
from typing import Any

from langgraph.pregel import Pregel

from .serving import Unsupported, serve


def load(path: pathlib.Path) -> dict[str, Any]:
    """The graphs of a langgraph.json, by name. Sets its environment, and makes its folder importable."""
    project = json.loads(path.read_text())
    folder = path.resolve().parent
    environment(project.get("env"), folder)
    for dependency in [".", *project.get("dependencies", [])]:
        if dependency.startswith("."):
            place = str((folder / dependency).resolve())
            if place not in sys.path:
                sys.path.insert(0, place)
    graphs = project.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        raise Unsupported(f"{path}: `graphs` is missing: graphs by name, each `./file.py:variable`")
    return {name: graph(name, spec["path"] if isinstance(spec, dict) else spec, folder) for name, spec in graphs.items()}


def environment(env: Any, folder: pathlib.Path) -> None:
    """Sets variables that are not set: from a file with NAME=VALUE in each line, or from an object."""
    if isinstance(env, str):
        lines = (folder / env).read_text().splitlines() if (folder / env).exists() else []
        pairs = [line.removeprefix("export ").split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#")]
        env = {name.strip(): value.strip().strip("'\"") for name, value in pairs}
    for name, value in (env or {}).items():
        os.environ.setdefault(name, str(value))


def graph(name: str, where: str, folder: pathlib.Path) -> Any:
    """The graph at `./file.py:variable` or `package.module:variable`; a function without arguments or of a config is called."""
    place, _, variable = where.rpartition(":")
    if not place:
        raise Unsupported(f"graph {name!r}: {where!r} is not `./file.py:variable`")
    if place.endswith(".py") or "/" in place:
        path = (folder / place).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.exists():
            raise Unsupported(f"graph {name!r}: there is no file {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    found = getattr(module, variable, None)
    if found is None:
        raise Unsupported(f"graph {name!r}: {place} has no {variable!r}")
    if callable(found) and not isinstance(found, Pregel) and not hasattr(found, "compile"):
        if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
            raise Unsupported(f"graph {name!r}: {variable!r} is an async factory; export a compiled graph or a plain function")
        found = found({}) if inspect.signature(found).parameters else found()
    return found.compile() if hasattr(found, "compile") and not isinstance(found, Pregel) else found


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser("runloom-langgraph", description="Serves the graphs of a langgraph.json on a Runloom server.")
    parser.add_argument("project", nargs="?", default="langgraph.json", type=pathlib.Path, help="the file (default: langgraph.json)")
    parser.add_argument("--address", default="localhost:50051", help="the server (default: localhost:50051)")
    parser.add_argument("--queue", default="langgraph", help="the queue of the workers (default: langgraph)")
    parser.add_argument("--max-tasks", type=int, default=16, help="tasks at once (default: 16)")
    parser.add_argument("--api-key", default=os.environ.get("RUNLOOM_API_KEY"), help="default: the variable RUNLOOM_API_KEY")
    given = parser.parse_args(arguments)
    try:
        graphs = load(given.project)
        print(f"serving {', '.join(graphs)} on {given.address}, queue {given.queue}", flush=True)
        serve(graphs, given.address, queue=given.queue, max_tasks=given.max_tasks, api_key=given.api_key)
    except (Unsupported, FileNotFoundError) as error:
        sys.exit(f"runloom-langgraph: {error}")

if __name__ == "__main__":
    main()
