#!/bin/sh
# Plays every scenario with LangGraph's official client against this server, on both stores, and compares the answers:
# those that were given, then our own.
# With arguments, passes them on to drive.py: `run.sh --only map_reduce_send --verbose`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=${VENV:-$root/target/venv-conformance}

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c "import langgraph_sdk, yaml" 2>/dev/null || "$venv/bin/pip" install --quiet langgraph-sdk pyyaml
(cd "$root" && cargo build --quiet -p runloom-gateway --example serve)

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM
"$venv/bin/python" "$here/drive.py" graphs "$here/scenarios" "$work/graphs" >/dev/null
"$venv/bin/python" "$here/drive.py" graphs "$here/own/scenarios" "$work/graphs" >/dev/null

failed=0
for store in memory sqlite; do
    data=
    [ "$store" = memory ] || data=$work/data
    "$target/debug/examples/serve" "$work/graphs" 127.0.0.1:0 ${data:+"$data"} >"$work/url" &
    server=$!
    for _ in $(seq 100); do
        [ -s "$work/url" ] && break
        sleep 0.1
    done
    echo "== $store"
    "$venv/bin/python" "$here/drive.py" check "$here/scenarios" "$(cat "$work/url")" "$here/expected" "$@" || failed=1
    "$venv/bin/python" "$here/own/play.py" check "$here/own/scenarios" "$(cat "$work/url")" "$here/own/expected" "$@" || failed=1
    kill -INT "$server"
    wait "$server" || failed=1
    server=
    : >"$work/url"
done
exit $failed
