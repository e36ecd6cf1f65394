"""What LangGraph's Python client has beside runs: the store, crons, webhooks, threads that go."""
import asyncio, datetime, http.server, json, queue, threading, time

import pytest

from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import APIStatusError
from server import Server

# How long anything may take, in seconds.
DEADLINE = 30


def until(look):
    """What a look gives, once it gives anything."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


def test_items_are_put_found_and_listed(url):
    async def program():
        store = get_client(url=url).store
        await store.put_item(["users", "ada"], key="likes", value={"food": "pizza", "rank": 2})
        await store.put_item(["users", "bob"], key="likes", value={"food": "soup", "rank": 5}, ttl=60)
        item = await store.get_item(["users", "ada"], key="likes")
        assert (item["namespace"], item["key"], item["value"]["food"]) == (["users", "ada"], "likes", "pizza")
        found = await store.search_items(["users"], filter={"rank": {"$gt": 2}}, limit=5, refresh_ttl=False)
        assert [item["value"]["food"] for item in found["items"]] == ["soup"]
        assert (await store.list_namespaces(prefix=["users"]))["namespaces"] == [["users", "ada"], ["users", "bob"]]
        assert (await store.list_namespaces(prefix=["users"], max_depth=1))["namespaces"] == [["users"]]
        await store.delete_item(["users", "ada"], key="likes")
        assert await store.get_item(["users", "ada"], key="likes") is None

    asyncio.run(program())


def test_an_item_and_a_thread_go_after_their_time(url):
    client = get_sync_client(url=url)
    client.store.put_item(["brief"], key="k", value={}, ttl=0.005)
    thread = client.threads.create(ttl={"ttl": 0.005, "strategy": "delete"})["thread_id"]
    until(lambda: client.store.get_item(["brief"], key="k", refresh_ttl=False) is None)

    def is_gone():
        try:
            client.threads.get(thread)
        except APIStatusError as error:
            return error.response.status_code == 404

    until(is_gone)


def test_crons_are_made_found_changed_and_deleted(url):
    client = get_sync_client(url=url)
    thread = client.threads.create()["thread_id"]
    made = client.crons.create(
        "joke", schedule="0 9 * * 1-5", timezone="Europe/Vienna", input={"topic": "cats"}, metadata={"team": "red"},
        end_time=datetime.datetime(2999, 1, 1), on_run_completed="keep", interrupt_before=["generate_joke"],
        stream_mode=["values"], webhook="https://example.org/hook")
    assert made["next_run_date"] and made["enabled"] and made["payload"]["input"] == {"topic": "cats"}
    other = client.crons.create_for_thread(thread, "joke", schedule="@yearly", input={"topic": "dogs"}, enabled=False)
    assert other["thread_id"] == thread and not other["enabled"]
    assert client.crons.count(metadata={"team": "red"}) == 1
    assert [cron["cron_id"] for cron in client.crons.search(thread_id=thread)] == [other["cron_id"]]
    changed = client.crons.update(made["cron_id"], schedule="@hourly", end_time=None, metadata={"n": 1})
    assert (changed["schedule"], changed["end_time"]) == ("@hourly", None)
    assert changed["metadata"] == {"team": "red", "n": 1} and changed["payload"]["webhook"] == "https://example.org/hook"
    for cron in (made, other):
        client.crons.delete(cron["cron_id"])
    with pytest.raises(APIStatusError) as gone:
        client.crons.delete(made["cron_id"])
    assert gone.value.response.status_code == 404


def test_a_cron_runs_on_its_thread(url):
    client = get_sync_client(url=url)
    thread = client.threads.create()["thread_id"]
    cron = client.crons.create_for_thread(thread, "joke", schedule="* * * * * *", input={"topic": "owls"})
    run = until(lambda: client.runs.list(thread))[-1]
    client.crons.delete(cron["cron_id"])
    assert run["kwargs"]["config"]["configurable"]["cron_id"] == cron["cron_id"]
    assert client.runs.join(thread, run["run_id"])["topic"]


def test_a_webhook_is_told_when_the_run_has_ended():
    told = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.put((self.headers, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    hook = f"http://127.0.0.1:{receiver.server_port}/"
    with Server("--webhook-allow-private", "--webhook-secret", "any text") as server:
        client = get_sync_client(url=f"http://{server.http}")
        client.runs.wait(None, "joke", input={"topic": "cats"}, webhook=hook)
        headers, run = told.get(timeout=DEADLINE)
    receiver.shutdown()
    assert (run["status"], headers["webhook-id"]) == ("success", run["run_id"])
    assert run["values"]["joke"] and headers["webhook-signature"].startswith("v1,")


def test_a_webhook_at_home_is_refused(url):
    with pytest.raises(APIStatusError) as refused:
        get_sync_client(url=url).runs.create(None, "joke", input={"topic": "cats"}, webhook="http://localhost/x")
    assert refused.value.response.status_code == 422
