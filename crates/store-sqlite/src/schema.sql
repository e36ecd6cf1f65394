-- The first version of the schema. A later one is a file of its own, run on top of this.
--
-- Rows point at one another by `n`, small integers; ids that clients see are blobs of 16 bytes. Where an `n` is never
-- used twice it says AUTOINCREMENT, which costs a page a transaction.
-- Times are nanoseconds since 1970. JSON is text; an empty object is NULL. What is long stands last in its row.

CREATE TABLE threads (
    n             INTEGER PRIMARY KEY AUTOINCREMENT,
    id            BLOB    NOT NULL UNIQUE,
    owner         TEXT,
    created       INTEGER NOT NULL,
    updated       INTEGER NOT NULL,
    state_updated INTEGER NOT NULL, -- the smallest integer: never
    status        INTEGER NOT NULL,
    stateless     INTEGER NOT NULL,
    graph         TEXT,
    assistant     BLOB,
    metadata      TEXT,
    config        TEXT,
    error         TEXT,
    interrupts    TEXT
);
CREATE INDEX threads_updated ON threads (updated);

CREATE TABLE runs (
    n            INTEGER PRIMARY KEY AUTOINCREMENT,
    id           BLOB    NOT NULL UNIQUE,
    thread       INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    status       INTEGER NOT NULL,
    logged       INTEGER NOT NULL, -- it is over, and its log is there
    owner        TEXT,
    assistant    BLOB,
    graph        TEXT    NOT NULL,
    revision     TEXT    NOT NULL,
    multitask    INTEGER NOT NULL,
    stateless    INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    started      INTEGER,
    ended        INTEGER,
    start_at     INTEGER,
    expires      INTEGER,
    last_seq     INTEGER NOT NULL,
    cancel       INTEGER,
    cancel_by    TEXT,
    cancel_at    INTEGER,
    request_id   TEXT,
    request_hash BLOB,
    usage        TEXT,
    error        TEXT,
    request      TEXT    NOT NULL
);
CREATE INDEX runs_thread ON runs (thread);
CREATE INDEX runs_open ON runs (thread) WHERE status < 2;
CREATE INDEX runs_scheduled ON runs (start_at) WHERE status = 0 AND start_at IS NOT NULL;
CREATE INDEX runs_expires ON runs (expires) WHERE expires IS NOT NULL;
CREATE INDEX runs_logged ON runs (ended) WHERE logged = 1;
CREATE UNIQUE INDEX runs_request ON runs (request_id, ifnull(owner, '')) WHERE request_id IS NOT NULL;

-- A record's key holds the run's n in the upper half and its own number in the lower 32 bits: one tree, no other index.
CREATE TABLE log (
    at    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
);
CREATE TABLE log_state (
    run      INTEGER PRIMARY KEY,
    reserved INTEGER NOT NULL, -- numbers below are reserved
    oldest   INTEGER NOT NULL  -- records before were trimmed
);

CREATE TABLE checkpoints (
    n           INTEGER PRIMARY KEY,
    thread      INTEGER NOT NULL,
    ns          TEXT    NOT NULL,
    id          BLOB    NOT NULL,
    parent      INTEGER,
    whole       INTEGER NOT NULL, -- the body is the whole state; the nearest such parent is the base
    base_bytes  INTEGER NOT NULL, -- of the base's state
    chain_bytes INTEGER NOT NULL, -- of the rows since the base
    step        INTEGER NOT NULL,
    source      INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    meta        INTEGER NOT NULL,
    control     TEXT,             -- what is to run next
    body        TEXT    NOT NULL  -- the whole state, or what changed since the parent
);
CREATE UNIQUE INDEX checkpoints_id ON checkpoints (thread, ns, id);
-- What the checkpoints of one run have in common, kept once.
CREATE TABLE checkpoint_meta (
    n        INTEGER PRIMARY KEY,
    thread   INTEGER NOT NULL,
    run      BLOB,
    revision TEXT NOT NULL,
    metadata TEXT
);
CREATE INDEX checkpoint_meta_thread ON checkpoint_meta (thread);
-- What tasks did, by checkpoint; of several runs' records of one task the last written (the highest n) is read.
CREATE TABLE tasks (
    n          INTEGER PRIMARY KEY,
    thread     INTEGER NOT NULL,
    ns         TEXT    NOT NULL,
    checkpoint BLOB    NOT NULL,
    task       BLOB    NOT NULL,
    run        INTEGER NOT NULL, -- 0: by hand
    body       TEXT    NOT NULL
);
CREATE UNIQUE INDEX tasks_id ON tasks (thread, ns, checkpoint, task, run);

CREATE TABLE assistants (
    n       INTEGER PRIMARY KEY AUTOINCREMENT,
    id      BLOB    NOT NULL UNIQUE,
    version INTEGER NOT NULL, -- the latest
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL
);
CREATE TABLE assistant_versions (
    assistant   INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    owner       TEXT,
    graph       TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    description TEXT,
    config      TEXT,
    context     TEXT,
    metadata    TEXT,
    PRIMARY KEY (assistant, version)
) WITHOUT ROWID;

CREATE TABLE graphs (
    n        INTEGER PRIMARY KEY AUTOINCREMENT, -- the highest of a name is its latest
    name     TEXT    NOT NULL,
    revision TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    text     TEXT    NOT NULL,
    UNIQUE (name, revision)
);

CREATE TABLE items (
    n       INTEGER PRIMARY KEY, -- the lowest was put first
    ns      BLOB    NOT NULL,
    key     TEXT    NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    value   TEXT,
    UNIQUE (ns, key)
);
CREATE TABLE node_cache (
    key   TEXT PRIMARY KEY,
    until INTEGER,
    value TEXT NOT NULL
);
CREATE INDEX node_cache_until ON node_cache (until) WHERE until IS NOT NULL;

-- Written to find out whether writes work.
CREATE TABLE probe (
    n    INTEGER PRIMARY KEY,
    at   INTEGER NOT NULL,
    fill BLOB
);
