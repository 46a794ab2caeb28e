-- What people say of an alert. The alert itself is an event of the lake; without a row here it is open.

CREATE TABLE alert_notes (
    tenant  TEXT   NOT NULL,
    alert   TEXT   NOT NULL, -- sakimori.alert.id
    status  TEXT   NOT NULL, -- open, acknowledged, closed
    comment TEXT   NOT NULL,
    author  TEXT   NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (tenant, alert)
);
