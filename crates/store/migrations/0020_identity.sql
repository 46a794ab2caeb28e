-- How people show who they are: browsers' sessions, second factors, passkeys, accounts of providers.

ALTER TABLE sessions ADD COLUMN browser BOOLEAN NOT NULL DEFAULT FALSE; -- a cookie, which ends when it is idle
ALTER TABLE sessions ADD COLUMN seen    BIGINT  NOT NULL DEFAULT 0;     -- its last request, to within a minute
ALTER TABLE sessions ADD COLUMN way     TEXT    NOT NULL DEFAULT 'password'; -- or 'passkey', 'sso:<provider>'
ALTER TABLE sessions ADD COLUMN strong  BOOLEAN NOT NULL DEFAULT FALSE; -- more than a password was shown
ALTER TABLE sessions ADD COLUMN agent   TEXT    NOT NULL DEFAULT '';    -- what the browser calls itself

ALTER TABLE users ADD COLUMN language TEXT NOT NULL DEFAULT ''; -- 'en', 'ja', or what the browser asks for

-- Secrets of codes by time (RFC 6238), sealed (docs/adr/0015). A step that was used is not used again.
CREATE TABLE totp (
    tenant    TEXT    NOT NULL,
    user_id   TEXT    NOT NULL,
    sealed    TEXT    NOT NULL,
    confirmed BOOLEAN NOT NULL,
    step      BIGINT  NOT NULL,
    created   BIGINT  NOT NULL,
    PRIMARY KEY (tenant, user_id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
);

-- Codes for who has lost the device: SHA-256 over the user and 80 random bits; gone once used.
CREATE TABLE recovery_codes (
    tenant  TEXT  NOT NULL,
    user_id TEXT  NOT NULL,
    hash    BYTEA NOT NULL,
    PRIMARY KEY (tenant, user_id, hash),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
);

CREATE TABLE passkeys (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    credential BYTEA   NOT NULL UNIQUE, -- its id, as the authenticator chose it
    public_key BYTEA   NOT NULL,        -- COSE
    counter    BIGINT  NOT NULL,
    backed_up  BOOLEAN NOT NULL,        -- it lies on more than one device
    created    BIGINT  NOT NULL,
    last_used  BIGINT,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
);
CREATE INDEX passkeys_user ON passkeys (tenant, user_id);

-- Users who sign in at a provider, and have no password here.
CREATE TABLE provider_accounts (
    tenant   TEXT NOT NULL,
    user_id  TEXT NOT NULL,
    provider TEXT NOT NULL, -- its id in the configuration
    subject  TEXT NOT NULL, -- the provider's name of the account, which it gives to no other
    PRIMARY KEY (tenant, user_id),
    UNIQUE (provider, subject),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
);
