-- Ways in and decisions out: which occurrences were taken already, and who may ask for decisions.

-- Occurrences that came by a way in, and what findings said: 32 hexadecimal digits each. A queue delivers again what it does not
-- know to be taken; what is here is not taken twice.
CREATE TABLE occurrences (
    tenant TEXT   NOT NULL,
    way    TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    seen   BIGINT NOT NULL,
    PRIMARY KEY (tenant, way, name)
);
CREATE INDEX occurrences_age ON occurrences (seen);

-- Programs that block what we decide. Kept is the SHA-256 of the key.
CREATE TABLE bouncers (
    tenant     TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    key_hash   BYTEA  NOT NULL UNIQUE,
    created_by TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    last_pull  BIGINT,          -- up to when it was told
    kind       TEXT   NOT NULL, -- what it calls itself, as its User-Agent
    PRIMARY KEY (tenant, name)
);
