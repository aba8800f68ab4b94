-- What `sshbell deliver` has done. Rows hold their own text, so the outbox may forget them.

-- One row a message: an event for a channel.
CREATE TABLE delivery (
    event_id  TEXT NOT NULL,
    channel   TEXT NOT NULL,
    seq       INTEGER NOT NULL,            -- the order: that of the outbox, plus cursor.base; 0: a test, which goes first
    state     TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'dead', 'dropped')),
    attempts  INTEGER NOT NULL DEFAULT 0,
    queued_us INTEGER NOT NULL,            -- wall clock, when it became known
    next_us   INTEGER NOT NULL,            -- wall clock, not to be tried before; see also channel.retry_us
    done_us   INTEGER,                     -- wall clock, when it left 'pending'
    reason    TEXT,                        -- of the last failure
    digest    TEXT,                        -- the one message in which this one is told with others
    body      BLOB NOT NULL,               -- the event as JSON
    PRIMARY KEY (event_id, channel)
) WITHOUT ROWID;
CREATE INDEX delivery_pending ON delivery (channel, seq) WHERE state = 'pending';
CREATE INDEX delivery_digest ON delivery (channel, digest) WHERE digest IS NOT NULL;
CREATE INDEX delivery_done ON delivery (done_us) WHERE state <> 'pending';

-- Each channel's last success and error, for `sshbell status`, and when it may be used again.
CREATE TABLE channel (
    name            TEXT PRIMARY KEY,
    last_success_us INTEGER,
    last_error_us   INTEGER,
    last_error      TEXT,
    failures        INTEGER NOT NULL DEFAULT 0,  -- since the last success
    retry_us        INTEGER NOT NULL DEFAULT 0,  -- wall clock, not to be tried before
    tokens          REAL,                        -- messages that max_per_hour leaves; NULL: all
    tokens_us       INTEGER NOT NULL DEFAULT 0   -- wall clock, when they were counted
) WITHOUT ROWID;

-- Up to where the outbox has been routed.
CREATE TABLE cursor (
    seq       INTEGER NOT NULL,
    event_id  TEXT NOT NULL,                -- of that row; another one there: state.db was replaced
    base      INTEGER NOT NULL              -- added to the numbers of this state.db, so that those of an earlier one are lower
);
INSERT INTO cursor VALUES (0, '', 0);
