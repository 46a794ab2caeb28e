-- Bounds on what a flood of alerts writes: repeats of one target are counted in its row, what is beyond the rate is counted
-- in a row of its own, what is over goes, and of the ledger's chain its head at that place stays.

ALTER TABLE actions ADD COLUMN folded BIGINT NOT NULL DEFAULT 0; -- orders for the same target that have no row of their own
ALTER TABLE actions ADD COLUMN folded_position BIGINT NOT NULL DEFAULT 0; -- journal record up to which they are counted
CREATE INDEX actions_age ON actions (tenant, changed);
CREATE INDEX actions_alert ON actions (tenant, alert);

-- Spans of time in which more was asked for than is written one by one.
CREATE TABLE shed (
    tenant   TEXT   NOT NULL,
    source   TEXT   NOT NULL, -- 'playbook:<id>', or the agent whose actions they are
    kind     TEXT   NOT NULL, -- 'waf_block', …; 'projection' for a host's actions that are not listed here
    target   TEXT   NOT NULL, -- channel of a message, else empty
    began    BIGINT NOT NULL,
    last     BIGINT NOT NULL,
    count    BIGINT NOT NULL,
    sample   TEXT   NOT NULL, -- one of the targets
    position BIGINT NOT NULL, -- journal record up to which they are counted
    told     BIGINT NOT NULL, -- how many a message has told of
    told_at  BIGINT,
    PRIMARY KEY (tenant, source, kind, target, began)
);

-- Where the chain of a tenant's ledger begins: what was before is retired, and this is the head that it had there.
CREATE TABLE ledger_begins (
    tenant   TEXT   NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL, -- the last record that is gone
    hash     BYTEA  NOT NULL,
    time     BIGINT NOT NULL
);
