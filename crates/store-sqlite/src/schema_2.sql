-- What led to a cancel: 0 a caller, 1 readers that left, 2 a newer run, 3 the thread's deletion. `cancel_by` says who.
ALTER TABLE runs ADD COLUMN cancel_cause INTEGER NOT NULL DEFAULT 0;
-- How many attempts were given back by a server that drained.
ALTER TABLE runs ADD COLUMN given_back INTEGER NOT NULL DEFAULT 0;
