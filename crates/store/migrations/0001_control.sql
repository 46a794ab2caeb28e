-- Control state, first part: tenants, people, tokens, policies, audit.
--
-- The subset of SQL that SQLite and PostgreSQL share: TEXT, BIGINT (microseconds), BOOLEAN, BYTEA; tenant
-- first in every key. The tenant '*' stands for all tenants, and has no row in tenants.

CREATE TABLE tenants (
    id      TEXT    NOT NULL PRIMARY KEY,
    name    TEXT    NOT NULL,
    created BIGINT  NOT NULL
);
INSERT INTO tenants (id, name, created) VALUES ('default', 'default', 0);

-- Numbers that only grow, taken inside the transaction that uses them.
CREATE TABLE counters (
    tenant TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    value  BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE users (
    tenant   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    role     TEXT    NOT NULL,
    password TEXT    NOT NULL, -- argon2id in PHC form
    disabled BOOLEAN NOT NULL,
    created  BIGINT  NOT NULL,
    changed  BIGINT  NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, name)
);

CREATE TABLE api_tokens (
    tenant      TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    prefix      TEXT   NOT NULL, -- first characters of the token, to tell tokens apart
    secret_hash BYTEA  NOT NULL, -- SHA-256; the secret itself is 32 random bytes and kept nowhere
    created_by  TEXT   NOT NULL,
    created     BIGINT NOT NULL,
    expires     BIGINT,
    last_used   BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX api_tokens_secret ON api_tokens (secret_hash);

CREATE TABLE sessions (
    tenant      TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    secret_hash BYTEA  NOT NULL,
    address     TEXT   NOT NULL,
    created     BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX sessions_secret ON sessions (secret_hash);
CREATE INDEX sessions_user ON sessions (tenant, user_id);

-- Failed logins by subject: 'user:<name>' below its tenant, 'address:<network>' below '*'.
CREATE TABLE login_throttle (
    tenant   TEXT   NOT NULL,
    subject  TEXT   NOT NULL,
    failures BIGINT NOT NULL,
    last     BIGINT NOT NULL,
    until    BIGINT NOT NULL,
    PRIMARY KEY (tenant, subject)
);
CREATE INDEX login_throttle_last ON login_throttle (last);

-- Every version of every layer; the greatest number of a layer is the one in force. Numbers grow over all
-- layers of a tenant, so that one number names the state of the whole policy.
CREATE TABLE policies (
    tenant  TEXT   NOT NULL,
    layer   TEXT   NOT NULL,
    number  BIGINT NOT NULL,
    tree    TEXT   NOT NULL, -- JSON
    author  TEXT   NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, layer, number)
);

CREATE TABLE settings (
    tenant TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- One chain a tenant: hash = SHA-256(previous, record).
CREATE TABLE audit (
    tenant      TEXT   NOT NULL,
    sequence    BIGINT NOT NULL,
    time        BIGINT NOT NULL,
    actor       TEXT   NOT NULL, -- 'user:<name>', 'token:<name>', 'agent:<id>' or 'system'
    action      TEXT   NOT NULL, -- 'resource:verb'
    target      TEXT   NOT NULL,
    before_hash BYTEA,
    after_hash  BYTEA,
    address     TEXT   NOT NULL, -- where the request came from; empty for the machine itself
    request     TEXT   NOT NULL, -- id of the request; empty where there was none
    previous    BYTEA  NOT NULL,
    hash        BYTEA  NOT NULL,
    PRIMARY KEY (tenant, sequence)
);

CREATE TABLE outbox (
    tenant   TEXT   NOT NULL,
    sequence BIGINT NOT NULL, -- over all tenants
    kind     TEXT   NOT NULL,
    key      TEXT   NOT NULL,
    payload  TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    PRIMARY KEY (tenant, sequence)
);
CREATE UNIQUE INDEX outbox_sequence ON outbox (sequence);
