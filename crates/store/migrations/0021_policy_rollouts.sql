-- Why a policy layer was written, and layers that some hosts get before the others.
ALTER TABLE policies ADD COLUMN reason TEXT NOT NULL DEFAULT '';

CREATE TABLE rollouts (
    tenant  TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    layer   TEXT   NOT NULL,
    state   TEXT   NOT NULL, -- first, halted, done, withdrawn
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    record  TEXT   NOT NULL, -- JSON: the tree, who and why, when it goes on, why it halted
    PRIMARY KEY (tenant, id)
);
CREATE INDEX rollouts_state ON rollouts (tenant, state);

-- The hosts of a roll-out's first stage.
CREATE TABLE rollout_agents (
    tenant   TEXT   NOT NULL,
    rollout  TEXT   NOT NULL,
    agent    TEXT   NOT NULL,
    number   BIGINT NOT NULL, -- of the policy that this host is to have at least
    baseline TEXT   NOT NULL, -- JSON: how the host was when the roll-out began
    PRIMARY KEY (tenant, rollout, agent)
);
CREATE INDEX rollout_agents_agent ON rollout_agents (tenant, agent);
