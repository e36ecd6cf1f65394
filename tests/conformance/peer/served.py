"""The graphs of the folder in GRAPH_DOCUMENTS, each under its name: where LangGraph's server looks for them."""
import os
import pathlib

import yaml

from graphs import build_all

DOCUMENTS = {d["name"]: d for d in (yaml.safe_load(p.read_text()) for p in sorted(pathlib.Path(os.environ["GRAPH_DOCUMENTS"]).glob("*.yaml")))}
globals().update(build_all(DOCUMENTS))
