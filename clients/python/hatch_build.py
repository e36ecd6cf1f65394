"""Build hook: generates the stubs from proto/ into runloom/v1, and the sync client from the async one into runloom/_sync."""
import io
import pathlib
import shutil
import tokenize

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Names of the async client and of the modules it uses, and what they are in the sync client.
SYNC_NAMES = {
    "AsyncIterator": "Iterator",
    "AsyncGenerator": "Generator",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "_aio": "_blocking",
    "_async": "_sync",
    "Client": "SyncClient",
    "RunStream": "SyncRunStream",
}
HEADER = "# Generated from runloom/_async by hatch_build.py.\n"


class Generate(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version, build_data):
        root = pathlib.Path(self.root)
        # In a source distribution proto/ is inside, in the repository it is two levels up.
        protos = next((p for p in (root / "proto", root.parents[1] / "proto") if p.is_dir()), None)
        if protos is None:
            raise FileNotFoundError(f"no proto/ in {root} or {root.parents[1]}: build in a checkout or from an sdist")
        package = root / "src" / "runloom"
        generate_stubs(protos, package)
        generate_sync(package / "_async", package / "_sync")


def generate_stubs(protos, package):
    """Writes runloom/v1: messages, services and their types."""
    import grpc_tools.protoc

    shutil.rmtree(package / "v1", ignore_errors=True)
    (package / "v1").mkdir()
    out = package.parent
    files = sorted(str(p) for p in (protos / "runloom").rglob("*.proto"))
    well_known = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if grpc_tools.protoc.main(["protoc", f"-I{protos}", f"-I{well_known}", *outputs, *files]):
        raise RuntimeError(f"protoc cannot compile {protos}")
    (package / "v1" / "__init__.py").write_text('"""The generated messages and stubs of the gRPC API."""\n')


def generate_sync(source, target):
    """Writes runloom/_sync: each file of the async client, without async and await."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in sorted(source.glob("*.py")):
        (target / file.name).write_text(HEADER + to_sync(file.read_text()))


def to_sync(code):
    """The same code without async and await, with the names of the sync client."""
    lines = code.splitlines(keepends=True)
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type == tokenize.NAME]
    for token in reversed(tokens):
        row, start, end = token.start[0] - 1, token.start[1], token.end[1]
        line = lines[row]
        if token.string in ("async", "await"):
            lines[row] = line[:start] + line[end:].lstrip(" ")
        elif token.string in SYNC_NAMES:
            lines[row] = line[:start] + SYNC_NAMES[token.string] + line[end:]
    return "".join(lines)
