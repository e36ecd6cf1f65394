"""An MCP server that reports progress, fails, hangs and dies when it is asked to: over its standard input and output, or
with `--http PORT` over streamable HTTP."""
import asyncio, os, socket, sys

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("moody")


def report(port, text):
    """Tells the test that listens on this port; the connection lasts as long as this process."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(text.encode() + b"\n")
    return connection


@server.tool()
async def count(to: int, ctx: Context) -> int:
    """Counts, and says how far it is."""
    for i in range(1, to + 1):
        await ctx.report_progress(i, to, f"at {i}")
    return to


@server.tool()
def picture() -> list:
    """A picture of one point, with a word to it."""
    return ["a point", Image(data=b"\x89PNG", format="png")]


@server.tool()
def fail(why: str) -> str:
    """Fails."""
    raise ToolError(why)


@server.tool()
def pid() -> int:
    """Which process this is."""
    return os.getpid()


@server.tool()
def environment() -> list[str]:
    """The names of the variables that this process was given."""
    return sorted(os.environ)


@server.tool()
def die() -> str:
    """Ends this process in the middle of the call."""
    print("this is the end", file=sys.stderr, flush=True)
    os._exit(3)


held = []


@server.tool()
def hold(port: int) -> str:
    """Keeps a connection for as long as this process lives."""
    held.append(report(port, "held"))
    return "held"


@server.tool()
async def hang(port: int) -> str:
    """Never answers. Reports when it begins, and when the call is cancelled."""
    connection = report(port, "hanging")
    try:
        await asyncio.Event().wait()
    finally:
        connection.sendall(b"cancelled\n")
        connection.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--http"]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
