-- The sixth version of the schema: API keys.

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  hash BLOB NOT NULL, -- SHA-256 of the key, which is not stored
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  scopes TEXT NOT NULL, -- separated by spaces
  created INTEGER NOT NULL,
  expires INTEGER -- null: never
) WITHOUT ROWID;
CREATE INDEX api_keys_of_tenant ON api_keys (tenant, created, id);
