-- Saved searches: what a person looks for again, alone or with all of the tenant.
CREATE TABLE searches (
    tenant   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    owner    TEXT    NOT NULL, -- user:name or token:name, as the audit log says it
    shared   BOOLEAN NOT NULL, -- seen by all of the tenant
    language TEXT    NOT NULL, -- search or sql
    query    TEXT    NOT NULL,
    begins   TEXT    NOT NULL, -- from when: a time, or how long ago; empty where it says nothing
    ends     TEXT    NOT NULL,
    columns  TEXT    NOT NULL, -- names of fields with commas between
    created  BIGINT  NOT NULL,
    changed  BIGINT  NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, owner, name)
);
