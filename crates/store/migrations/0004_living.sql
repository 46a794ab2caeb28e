-- Living with it: tokens for groups of hosts, and agents that go away.

ALTER TABLE enrolment_tokens ADD COLUMN most_uses BIGINT NOT NULL DEFAULT 1;
ALTER TABLE enrolment_tokens ADD COLUMN uses      BIGINT NOT NULL DEFAULT 0;
ALTER TABLE enrolment_tokens ADD COLUMN networks  TEXT   NOT NULL DEFAULT '[]'; -- JSON list; empty: from anywhere
UPDATE enrolment_tokens SET uses = 1 WHERE used IS NOT NULL;

ALTER TABLE agents ADD COLUMN token          TEXT NOT NULL DEFAULT '';   -- id of the token that made it
ALTER TABLE agents ADD COLUMN machine        TEXT NOT NULL DEFAULT '{}'; -- JSON of wire::machine::Machine
ALTER TABLE agents ADD COLUMN presence       TEXT NOT NULL DEFAULT '';   -- '', silent, stopped or retired
ALTER TABLE agents ADD COLUMN presence_since BIGINT;
