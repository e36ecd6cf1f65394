"""Runs the snippets of the READMEs against a server, and compares what they print."""
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

BLOCKS = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)


def snippets(path):
    found = enumerate(BLOCKS.findall(path.read_text()))
    return [pytest.param(code, wanted, id=f"{path.parent.name}-{n}") for n, (code, wanted) in found]


READMES = [ROOT / "clients" / name / "README.md" for name in ("python", "langgraph")]
SNIPPETS = [snippet for readme in READMES for snippet in snippets(readme)]
SNIPPETS += [snippet for snippet in snippets(ROOT / "README.md") if "from runloom import" in snippet.values[0]]


@pytest.mark.parametrize(("code", "wanted"), SNIPPETS)
def test_snippet(server, code, wanted, tmp_path):
    script = pathlib.Path(tmp_path / "snippet.py")
    script.write_text(re.sub(r"(localhost|127.0.0.1):50051", server.address, code))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == wanted
