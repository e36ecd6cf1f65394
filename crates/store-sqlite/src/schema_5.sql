-- The fifth version of the schema: events of a thread are counted with the end of each run.

ALTER TABLE threads ADD COLUMN events INTEGER; -- of the runs that have ended; null where they are not counted
UPDATE threads SET events = 0 WHERE NOT EXISTS (SELECT 1 FROM runs WHERE thread = threads.n AND started IS NOT NULL);
ALTER TABLE runs ADD COLUMN events_before INTEGER; -- of the thread, when the run began
