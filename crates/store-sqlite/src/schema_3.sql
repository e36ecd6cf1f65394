-- The third version of the schema: items and threads that go after a time, crons, and what is to be posted when a run has ended.

ALTER TABLE items ADD COLUMN expires INTEGER;
ALTER TABLE items ADD COLUMN ttl INTEGER; -- nanoseconds from a put or a read
CREATE INDEX items_expires ON items (expires) WHERE expires IS NOT NULL;

ALTER TABLE threads ADD COLUMN expires INTEGER;
ALTER TABLE threads ADD COLUMN keep_latest INTEGER; -- only the old checkpoints go then
CREATE INDEX threads_expires ON threads (expires) WHERE expires IS NOT NULL;

CREATE TABLE crons (
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    id        BLOB    NOT NULL UNIQUE,
    owner     TEXT,
    assistant BLOB    NOT NULL,
    thread    BLOB,
    schedule  TEXT    NOT NULL,
    timezone  TEXT,
    end_at    INTEGER,
    enabled   INTEGER NOT NULL,
    keep      INTEGER NOT NULL, -- the threads of its runs
    next_at   INTEGER,          -- when it is due; none where it is not again
    fired     INTEGER,
    last_run  BLOB,
    created   INTEGER NOT NULL,
    updated   INTEGER NOT NULL,
    error     TEXT,             -- why the last firing made no run
    metadata  TEXT,
    request   TEXT    NOT NULL
);
CREATE INDEX crons_next ON crons (next_at) WHERE next_at IS NOT NULL AND enabled;
CREATE INDEX crons_thread ON crons (thread) WHERE thread IS NOT NULL;

-- What waits to be posted: made with the end of a run, deleted when it is delivered or given up.
CREATE TABLE deliveries (
    run      BLOB    PRIMARY KEY,
    next_at  INTEGER NOT NULL,
    created  INTEGER NOT NULL,
    attempts INTEGER NOT NULL, -- that failed
    error    TEXT,
    url      TEXT    NOT NULL,
    body     TEXT    NOT NULL
);
CREATE INDEX deliveries_next ON deliveries (next_at);
