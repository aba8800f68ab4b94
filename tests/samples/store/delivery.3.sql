-- The work of `sshbell deliver`. Each row has its own text, so `run` may delete it from the outbox.

-- One row per message: an event for a channel.
CREATE TABLE delivery (
    event_id  TEXT NOT NULL,
    channel   TEXT NOT NULL,
    seq       INTEGER NOT NULL,            -- the order: the number in the outbox, plus cursor.base; 0: a test, which goes first
    state     TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'dead', 'dropped')),
    attempts  INTEGER NOT NULL DEFAULT 0,
    queued_us INTEGER NOT NULL,            -- wall clock, when `run` queued it
    next_us   INTEGER NOT NULL,            -- wall clock, no try before; see also channel.retry_us
    done_us   INTEGER,                     -- wall clock, when it left 'pending'
    reason    TEXT,                        -- of the last failure
    digest    TEXT,                        -- the digest that reports this message with others
    body      BLOB NOT NULL,               -- the event as JSON
    budget    TEXT NOT NULL DEFAULT '',    -- the share of max_per_hour that it takes from; '': that of all noise
    hold      TEXT NOT NULL DEFAULT '',    -- the hold in which it waits for others
    free_us   INTEGER NOT NULL DEFAULT 0,  -- wall clock, when it left its hold; 0: it was in none
    urgent    INTEGER NOT NULL DEFAULT 0,  -- 1: also in quiet hours
    PRIMARY KEY (event_id, channel)
) WITHOUT ROWID;
CREATE INDEX delivery_pending ON delivery (channel, seq) WHERE state = 'pending' AND hold = '';
CREATE INDEX delivery_login ON delivery (channel, seq, budget) WHERE state = 'pending' AND hold = '' AND budget <> '';
CREATE INDEX delivery_urgent ON delivery (channel, seq) WHERE state = 'pending' AND hold = '' AND urgent;
CREATE INDEX delivery_hold ON delivery (channel, hold, seq) WHERE state = 'pending' AND hold <> '';
CREATE INDEX delivery_digest ON delivery (channel, digest) WHERE digest IS NOT NULL;
CREATE INDEX delivery_done ON delivery (done_us) WHERE state <> 'pending';

-- Each channel's last success and error, for `sshbell status`, and when sshbell may use it again.
CREATE TABLE channel (
    name            TEXT PRIMARY KEY,
    last_success_us INTEGER,
    last_error_us   INTEGER,
    last_error      TEXT,
    failures        INTEGER NOT NULL DEFAULT 0,  -- since the last success
    retry_us        INTEGER NOT NULL DEFAULT 0   -- wall clock, no try before
) WITHOUT ROWID;

-- What is left of max_per_hour: one row for noise, and one for each account on each host with recent messages.
CREATE TABLE budget (
    channel   TEXT NOT NULL,
    name      TEXT NOT NULL,               -- as delivery.budget
    tokens    REAL,                        -- messages left; NULL: all
    tokens_us INTEGER NOT NULL,            -- wall clock of that count
    PRIMARY KEY (channel, name)
) WITHOUT ROWID;
CREATE INDEX budget_spent ON budget (channel) WHERE tokens < 1;

-- What collects messages until a time: a fold, a digest, the quiet hours; and what a digest has lost to a limit.
CREATE TABLE hold (
    channel   TEXT NOT NULL,
    name      TEXT NOT NULL,               -- as delivery.hold; or of a digest, as delivery.digest
    due_us    INTEGER,                     -- wall clock, when its messages become one; NULL: the name is that of a digest
    window_us INTEGER NOT NULL,            -- a fold goes on for so long after it was due; 0: it ends
    omitted   INTEGER NOT NULL DEFAULT 0,  -- messages that are only counted, because too many wait
    urgent    INTEGER NOT NULL DEFAULT 0,  -- 1: also in quiet hours
    PRIMARY KEY (channel, name)
) WITHOUT ROWID;
CREATE INDEX hold_due ON hold (channel, due_us) WHERE due_us IS NOT NULL;

-- The last message of the outbox that `deliver` has routed.
CREATE TABLE cursor (
    seq       INTEGER NOT NULL,
    event_id  TEXT NOT NULL,                -- of that row; if the outbox has another one there, state.db is new
    base      INTEGER NOT NULL              -- added to the numbers of this state.db, so that an earlier one's are lower
);
INSERT INTO cursor VALUES (0, '', 0);
