#!/bin/sh
# Plays scenarios against LangGraph's own server: record.sh [--check] SCENARIOS EXPECTED [--only a,b]
# Writes what it answers to EXPECTED; with --check, compares with what is there. PYTHON has peer/requirements.txt installed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../../target/venv-peer/bin/python}
verb=record
[ "$1" != --check ] || { verb=check; shift; }
scenarios=$1 expected=$2
shift 2

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM
"$python" "$here/../drive.py" graphs "$scenarios" "$work/graphs" >/dev/null
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$python" "$here/serve.py" "$work/graphs" "$port" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 150); do
    "$python" -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/ok')" 2>/dev/null && break
    kill -0 "$server" 2>/dev/null || { tail -20 "$work/log" >&2; exit 1; }
    sleep 0.2
done
"$python" "$here/../own/play.py" "$verb" "$scenarios" "http://127.0.0.1:$port" "$expected" "$@"
