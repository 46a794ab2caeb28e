-- Control state, second part: agents, the journal's bookkeeping, actions and their ledger.

CREATE TABLE enrolment_tokens (
    tenant      TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    secret_hash BYTEA  NOT NULL,
    tags        TEXT   NOT NULL, -- JSON list
    created_by  TEXT   NOT NULL,
    created     BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    used        BIGINT,
    used_by     TEXT,            -- agent id
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX enrolment_tokens_secret ON enrolment_tokens (secret_hash);

CREATE TABLE agents (
    tenant      TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    name        TEXT    NOT NULL, -- host name
    tags        TEXT    NOT NULL, -- JSON list; each names a policy layer group:<tag>
    host        TEXT    NOT NULL, -- JSON of the host's facts
    versions    TEXT    NOT NULL, -- JSON of the last hello
    status      TEXT    NOT NULL, -- JSON of wire::status::AgentStatus, as last sent
    enrolled    BIGINT  NOT NULL,
    last_seen   BIGINT,
    serial      TEXT    NOT NULL, -- of the certificate in use
    revoked     BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX agents_id ON agents (id);

-- What waits to be told to an agent; gone once it answered.
CREATE TABLE agent_orders (
    tenant  TEXT   NOT NULL,
    agent   TEXT   NOT NULL,
    id      TEXT   NOT NULL, -- id of the action
    kind    TEXT   NOT NULL, -- 'order' or 'undo'
    payload TEXT   NOT NULL, -- JSON of the order, or who asked
    created BIGINT NOT NULL,
    PRIMARY KEY (tenant, agent, id, kind)
);

-- One row a stream: what has arrived and is covered by a committed flush.
CREATE TABLE streams (
    tenant   TEXT   NOT NULL,
    origin   TEXT   NOT NULL,
    stream   TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    events   BIGINT NOT NULL,
    PRIMARY KEY (tenant, origin, stream)
);

CREATE TABLE losses (
    tenant   TEXT   NOT NULL,
    origin   TEXT   NOT NULL,
    stream   TEXT   NOT NULL,
    sequence BIGINT NOT NULL, -- of the batch that reported it
    number   BIGINT NOT NULL,
    count    BIGINT NOT NULL,
    cause    TEXT   NOT NULL,
    place    TEXT   NOT NULL,
    from_us  BIGINT NOT NULL,
    to_us    BIGINT NOT NULL,
    PRIMARY KEY (tenant, origin, stream, sequence, number)
);

-- Flushes of a writer (D2): claimed before it writes, settled by asking the table.
CREATE TABLE flushes (
    writer    TEXT    NOT NULL,
    number    BIGINT  NOT NULL,
    position  BIGINT  NOT NULL, -- last journal record in it
    arrival   BIGINT  NOT NULL, -- next arrival sequence after it
    committed BOOLEAN NOT NULL,
    created   BIGINT  NOT NULL,
    PRIMARY KEY (writer, number)
);
CREATE TABLE claims (
    batch  TEXT   NOT NULL PRIMARY KEY,
    writer TEXT   NOT NULL,
    number BIGINT NOT NULL
);
CREATE INDEX claims_flush ON claims (writer, number);

-- Detection's state at a journal position (D8).
CREATE TABLE checkpoints (
    name     TEXT   NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL,
    engine   TEXT   NOT NULL,
    state    BYTEA  NOT NULL
);

CREATE TABLE actions (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    place      TEXT    NOT NULL, -- agent id or 'manager'
    kind       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    alert      TEXT    NOT NULL,
    rule       TEXT    NOT NULL,
    probe      BOOLEAN NOT NULL,
    planned    BIGINT  NOT NULL,
    expires    BIGINT,
    changed    BIGINT  NOT NULL,
    position   BIGINT  NOT NULL, -- journal record of a host action's newest event
    failures   BIGINT  NOT NULL,
    retry_at   BIGINT,
    record     TEXT    NOT NULL, -- JSON of model::Action
    PRIMARY KEY (tenant, id)
);
CREATE INDEX actions_work ON actions (place, state, kind);
CREATE INDEX actions_target ON actions (tenant, kind, target, state);

-- Hash-chained steps of the manager's own actions; one chain a tenant.
CREATE TABLE ledger (
    tenant   TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    time     BIGINT NOT NULL,
    action   TEXT   NOT NULL,
    record   BYTEA  NOT NULL,
    previous BYTEA  NOT NULL,
    hash     BYTEA  NOT NULL,
    PRIMARY KEY (tenant, sequence)
);
