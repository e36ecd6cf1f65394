-- The fourth version of the schema: tenants, servers with leases, claims.

-- Ids are unique within a tenant, so the tables with a unique id are made anew. What an AUTOINCREMENT column has counted to
-- is carried over.
CREATE TABLE threads_4 (
    n             INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant        TEXT    NOT NULL,
    id            BLOB    NOT NULL,
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
    interrupts    TEXT,
    expires       INTEGER,
    keep_latest   INTEGER,
    UNIQUE (tenant, id)
);
INSERT INTO threads_4 SELECT n, 'default', id, created, updated, state_updated, status, stateless, graph, assistant,
    metadata, config, error, interrupts, expires, keep_latest FROM threads ORDER BY n;
INSERT OR IGNORE INTO sqlite_sequence (name, seq) SELECT 'threads_4', seq FROM sqlite_sequence
    WHERE name = 'threads' AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'threads_4');
UPDATE sqlite_sequence SET seq = max(seq, ifnull((SELECT s.seq FROM sqlite_sequence s WHERE s.name = 'threads'), 0))
    WHERE name = 'threads_4';
DROP TABLE threads;
ALTER TABLE threads_4 RENAME TO threads;
CREATE INDEX threads_updated ON threads (tenant, updated);
CREATE INDEX threads_expires ON threads (expires) WHERE expires IS NOT NULL;

DROP INDEX runs_request;
ALTER TABLE runs DROP COLUMN owner;
ALTER TABLE runs ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
ALTER TABLE runs ADD COLUMN server BLOB; -- that drives it, while it is running
CREATE UNIQUE INDEX runs_request ON runs (tenant, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX runs_tenant ON runs (tenant, n);
CREATE INDEX runs_running ON runs (server) WHERE status = 1;
CREATE INDEX runs_pending ON runs (n) WHERE status = 0;
CREATE INDEX runs_rollback ON runs (status) WHERE cancel = 1;
CREATE INDEX runs_begun ON runs (thread, ifnull(started, ended), id) WHERE ifnull(started, ended) IS NOT NULL;

CREATE TABLE assistants_4 (
    n       INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant  TEXT    NOT NULL,
    id      BLOB    NOT NULL,
    version INTEGER NOT NULL, -- the latest
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    UNIQUE (tenant, id)
);
INSERT INTO assistants_4 SELECT n, 'default', id, version, created, updated FROM assistants ORDER BY n;
DROP TABLE assistants;
ALTER TABLE assistants_4 RENAME TO assistants;
ALTER TABLE assistant_versions DROP COLUMN owner;

CREATE TABLE graphs_4 (
    n        INTEGER PRIMARY KEY AUTOINCREMENT, -- the highest of a name is its latest
    tenant   TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    revision TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    text     TEXT    NOT NULL,
    UNIQUE (tenant, name, revision)
);
INSERT INTO graphs_4 SELECT n, 'default', name, revision, created, text FROM graphs ORDER BY n;
DROP TABLE graphs;
ALTER TABLE graphs_4 RENAME TO graphs;

CREATE TABLE crons_4 (
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant    TEXT    NOT NULL,
    id        BLOB    NOT NULL,
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
    request   TEXT    NOT NULL,
    UNIQUE (tenant, id)
);
INSERT INTO crons_4 SELECT n, 'default', id, assistant, thread, schedule, timezone, end_at, enabled, keep, next_at, fired,
    last_run, created, updated, error, metadata, request FROM crons ORDER BY n;
DROP TABLE crons;
ALTER TABLE crons_4 RENAME TO crons;
CREATE INDEX crons_next ON crons (next_at) WHERE next_at IS NOT NULL AND enabled;
CREATE INDEX crons_thread ON crons (tenant, thread) WHERE thread IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';

CREATE TABLE items_4 (
    n       INTEGER PRIMARY KEY, -- the lowest was put first
    tenant  TEXT    NOT NULL,
    ns      BLOB    NOT NULL,
    key     TEXT    NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    expires INTEGER,
    ttl     INTEGER, -- nanoseconds from a put or a read
    value   TEXT,
    UNIQUE (tenant, ns, key)
);
INSERT INTO items_4 SELECT n, 'default', ns, key, created, updated, expires, ttl, value FROM items ORDER BY n;
DROP TABLE items;
ALTER TABLE items_4 RENAME TO items;
CREATE INDEX items_expires ON items (expires) WHERE expires IS NOT NULL;

CREATE TABLE node_cache_4 (
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    until  INTEGER,
    value  TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
);
INSERT INTO node_cache_4 SELECT 'default', key, until, value FROM node_cache;
DROP TABLE node_cache;
ALTER TABLE node_cache_4 RENAME TO node_cache;
CREATE INDEX node_cache_until ON node_cache (until) WHERE until IS NOT NULL;

-- Servers whose lease lasts, or ended a short time ago.
CREATE TABLE servers (
    id    BLOB PRIMARY KEY,
    until INTEGER NOT NULL
) WITHOUT ROWID;
-- Jobs that a server holds as long as its lease lasts.
CREATE TABLE claims (
    job    TEXT PRIMARY KEY,
    server BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX claims_server ON claims (server);
