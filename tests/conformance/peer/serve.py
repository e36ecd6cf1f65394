"""Serves a folder of graph documents with LangGraph's own in-memory server, on loopback.

    serve.py GRAPHS_DIR PORT
"""
import os
import pathlib
import sys
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    folder, port = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
    documents = [yaml.safe_load(p.read_text()) for p in sorted(folder.glob("*.yaml"))]
    os.environ.update(GRAPH_DOCUMENTS=str(folder), LANGGRAPH_NO_VERSION_CHECK="true", LANGGRAPH_CLI_NO_ANALYTICS="1",
                      LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false", BG_JOB_ISOLATED_LOOPS="false")
    sys.path.insert(0, str(HERE))
    os.chdir(tempfile.mkdtemp())
    from langgraph_api.cli import run_server
    graphs = {d["name"]: {"path": f"served:{d['name']}", "description": d.get("description")} for d in documents if not d.get("hidden")}
    run_server("127.0.0.1", port, graphs=graphs, n_jobs_per_worker=10, open_browser=False, tunnel=False, allow_blocking=True,
               disable_persistence=True)


if __name__ == "__main__":
    main()
