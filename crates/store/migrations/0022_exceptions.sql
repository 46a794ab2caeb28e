-- Exceptions over alerts: what is found and expected. How often one was used is asked of the lake, where each alert that it
-- held back names it.

CREATE TABLE exceptions (
    tenant     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    rule       TEXT   NOT NULL, -- rule.id
    agent      TEXT   NOT NULL, -- id of the one host; empty for all
    tag        TEXT   NOT NULL, -- group of hosts; empty for all
    condition  TEXT   NOT NULL, -- search language; empty for all alerts of the rule
    reason     TEXT   NOT NULL,
    owner      TEXT   NOT NULL,
    created_by TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX exceptions_expiry ON exceptions (expires);
