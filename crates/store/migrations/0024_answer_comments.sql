-- What somebody says along with an answer to the question of an execution.

ALTER TABLE answers ADD COLUMN comment TEXT NOT NULL DEFAULT '';
