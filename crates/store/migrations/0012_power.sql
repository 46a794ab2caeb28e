-- Power that cannot be stolen: what an order to a host still lacks, the seals of operators on it, and the heads of logs
-- that managers and agents remember of one another.

ALTER TABLE agent_orders ADD COLUMN lacks BIGINT NOT NULL DEFAULT 0; -- operators who still have to sign it
ALTER TABLE agent_orders ADD COLUMN signers TEXT NOT NULL DEFAULT '[]'; -- JSON list, `name ed25519:hex`

CREATE TABLE order_seals (
    tenant  TEXT   NOT NULL,
    agent   TEXT   NOT NULL,
    id      TEXT   NOT NULL, -- id of the action
    kind    TEXT   NOT NULL, -- 'order' or 'undo'
    key_id  BYTEA  NOT NULL, -- of the operator's key
    seal    BYTEA  NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, agent, id, kind, key_id)
);

-- 'ledger': where an agent's ledger stood, as this manager saw it. 'audit:<chain>': where a chain of the audit log
-- stood, as an agent saw it.
CREATE TABLE heads (
    tenant   TEXT   NOT NULL,
    agent    TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    hash     BYTEA  NOT NULL,
    told     BIGINT NOT NULL,
    PRIMARY KEY (tenant, agent, kind)
);

-- Forks and cuts that were found.
CREATE TABLE breaks (
    tenant   TEXT   NOT NULL,
    agent    TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    detail   TEXT   NOT NULL,
    found    BIGINT NOT NULL,
    PRIMARY KEY (tenant, agent, kind, sequence)
);
