-- What `sshbell deliver` has done. Rows hold their own text, so the outbox may forget them.

-- One row a message: an event for a channel.
CREATE TABLE delivery (
    event_id  TEXT NOT NULL,
    channel   TEXT NOT NULL,
    seq       INTEGER NOT NULL,            -- of the outbox; the order
    state     TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'dead', 'dropped')),
    attempts  INTEGER NOT NULL DEFAULT 0,
    queued_us INTEGER NOT NULL,            -- wall clock, when it became known
    next_us   INTEGER NOT NULL,            -- wall clock, not to be tried before
    done_us   INTEGER,                     -- wall clock, when it left 'pending'
    reason    TEXT,                        -- of the last failure
    body      BLOB NOT NULL,               -- the event as JSON
    PRIMARY KEY (event_id, channel)
) WITHOUT ROWID;
CREATE INDEX delivery_pending ON delivery (channel, seq) WHERE state = 'pending';
CREATE INDEX delivery_done ON delivery (done_us) WHERE state <> 'pending';

-- Each channel's last success and error, for `sshbell status`.
CREATE TABLE channel (
    name            TEXT PRIMARY KEY,
    last_success_us INTEGER,
    last_error_us   INTEGER,
    last_error      TEXT
) WITHOUT ROWID;

-- Up to where the outbox has been routed.
CREATE TABLE cursor (
    seq INTEGER NOT NULL
);
INSERT INTO cursor VALUES (0);
