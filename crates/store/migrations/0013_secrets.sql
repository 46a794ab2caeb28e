-- Named secrets of tenants, sealed (docs/adr/0015). `sealed` is text that names its key and is bound to tenant and name.
CREATE TABLE secrets (
    tenant     TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    sealed     TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    changed    BIGINT NOT NULL,
    changed_by TEXT   NOT NULL,
    PRIMARY KEY (tenant, name)
);
