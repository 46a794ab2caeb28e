-- Executions of playbooks: what one playbook does about one alert, step by step.

CREATE TABLE executions (
    tenant   TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    playbook TEXT   NOT NULL,
    revision TEXT   NOT NULL, -- which text of the playbook
    alert    TEXT   NOT NULL, -- empty where none began it
    state    TEXT   NOT NULL,
    started  BIGINT NOT NULL,
    changed  BIGINT NOT NULL,
    undo     TEXT   NOT NULL, -- who wants it taken back; empty where nobody does
    event    TEXT   NOT NULL, -- the alert or finding, JSON
    record   TEXT   NOT NULL, -- JSON of respond::execution::Execution
    PRIMARY KEY (tenant, id)
);
CREATE INDEX executions_work ON executions (state, started);
CREATE INDEX executions_playbook ON executions (tenant, playbook, changed);
CREATE INDEX executions_age ON executions (tenant, started);

-- What people answered to the questions of executions.
CREATE TABLE answers (
    tenant    TEXT    NOT NULL,
    execution TEXT    NOT NULL,
    step      TEXT    NOT NULL,
    person    TEXT    NOT NULL,
    allow     BOOLEAN NOT NULL,
    time      BIGINT  NOT NULL,
    PRIMARY KEY (tenant, execution, step, person)
);

-- Texts of playbooks that executions refer to: what is under way goes on as it began.
CREATE TABLE playbook_revisions (
    revision TEXT   NOT NULL PRIMARY KEY,
    playbook TEXT   NOT NULL,
    file     TEXT   NOT NULL,
    text     TEXT   NOT NULL,
    since    BIGINT NOT NULL
);

-- When a playbook that the clock begins was begun last.
CREATE TABLE playbook_runs (
    tenant   TEXT   NOT NULL,
    playbook TEXT   NOT NULL,
    last     BIGINT NOT NULL,
    PRIMARY KEY (tenant, playbook)
);
