-- Messages to people: what is to be sent, every try with what the receiver answered, and which alerts were told.

UPDATE actions SET kind = 'notify' WHERE kind = 'notify_webhook';
UPDATE shed SET kind = 'notify' WHERE kind = 'notify_webhook';

CREATE TABLE messages (
    tenant    TEXT   NOT NULL,
    id        TEXT   NOT NULL, -- the same for every repeat; the key by which receivers tell repeats apart
    channel   TEXT   NOT NULL,
    kind      TEXT   NOT NULL, -- 'alert', 'close' (what an earlier message told is over), 'test'
    subject   TEXT   NOT NULL, -- one line of what it says; of 'close' the id of the earlier message
    state     TEXT   NOT NULL, -- 'waiting', 'sending', 'sent', 'dead'
    body      TEXT   NOT NULL, -- the facts, JSON
    members   TEXT   NOT NULL, -- ids of the actions that it carries out, JSON
    tries     BIGINT NOT NULL,
    failures  BIGINT NOT NULL, -- tries after which it is known that the receiver has it not, since it was last taken up
    unknown   BIGINT NOT NULL, -- tries of which nobody knows whether it arrived, since it was last taken up
    reference TEXT   NOT NULL, -- what the receiver calls it: 'SEC-12'; empty where it does not say
    reason    TEXT   NOT NULL, -- why it was not sent yet, or is dead
    created   BIGINT NOT NULL,
    changed   BIGINT NOT NULL,
    retry_at  BIGINT NOT NULL, -- not before
    PRIMARY KEY (tenant, id)
);
CREATE INDEX messages_due ON messages (state, channel, retry_at);
CREATE INDEX messages_age ON messages (tenant, created);

CREATE TABLE message_tries (
    tenant  TEXT   NOT NULL,
    message TEXT   NOT NULL,
    number  BIGINT NOT NULL, -- from 1
    began   BIGINT NOT NULL,
    ended   BIGINT,          -- none where the manager ended meanwhile
    outcome TEXT   NOT NULL, -- 'sending', 'delivered', 'not_taken', 'unknown', 'refused'
    answer  TEXT   NOT NULL, -- what came back, bounded
    PRIMARY KEY (tenant, message, number)
);

-- By which messages an alert was told, so that they can be told when it is closed.
CREATE TABLE message_alerts (
    tenant  TEXT NOT NULL,
    alert   TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (tenant, alert, message)
);
CREATE INDEX message_alerts_message ON message_alerts (tenant, message);
