-- What `sshbell run` knows. It is the only writer.

-- Everything that happened, by event.id; writing it twice changes nothing.
CREATE TABLE event (
    id        TEXT PRIMARY KEY,
    time_us   INTEGER NOT NULL,            -- microseconds since 1970 UTC, of the log
    action    TEXT NOT NULL,               -- event.action
    host      TEXT NOT NULL,
    user      TEXT,
    uid       INTEGER,
    address   TEXT,
    port      INTEGER,
    method    TEXT,                        -- with submethod, as sshd writes it: keyboard-interactive/pam
    info      TEXT,                        -- key or certificate, as sshd writes it behind "ssh2: "
    origin    TEXT NOT NULL,               -- verified, unverified, forged
    count     INTEGER NOT NULL,            -- of an ssh_attempt: how many equal tries
    reason    TEXT,                        -- of an ssh_forged: what it claims
    ambiguous INTEGER NOT NULL,            -- 1: peer text could have forged the line
    login_id  TEXT                         -- of an ssh_logout: its ssh_login
) WITHOUT ROWID;
CREATE INDEX event_time ON event (time_us);

-- Logins and their ends.
CREATE TABLE session (
    login_id  TEXT PRIMARY KEY,
    host      TEXT NOT NULL,
    user      TEXT,
    uid       INTEGER,
    address   TEXT,
    port      INTEGER,
    method    TEXT,
    info      TEXT,
    origin    TEXT NOT NULL,
    ambiguous INTEGER NOT NULL,
    opened_us INTEGER NOT NULL,            -- 0: no line had a time
    closed_us INTEGER                      -- NULL: still open, or its end was never logged
) WITHOUT ROWID;
CREATE INDEX session_opened ON session (opened_us);
CREATE INDEX session_open ON session (opened_us) WHERE closed_us IS NULL;
CREATE INDEX session_host ON session (host, closed_us, opened_us);

-- From which address a host's lines have come, as rsyslog says; on a relay.
CREATE TABLE sender (
    address   TEXT NOT NULL,
    host      TEXT NOT NULL,
    seen_us   INTEGER NOT NULL,            -- wall clock, to the hour
    PRIMARY KEY (address, host)
);

-- What is to be told, in the order in which it became known; `sshbell deliver` reads it.
CREATE TABLE outbox (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id  TEXT NOT NULL UNIQUE,
    action    TEXT NOT NULL,
    queued_us INTEGER NOT NULL,            -- wall clock
    body      BLOB NOT NULL                -- the event as JSON, as `sshbell replay --format json` writes it
);

-- The memory of the pipeline at the beginning of a segment of the intake journal, part by part.
CREATE TABLE snapshot (
    part      TEXT PRIMARY KEY,
    body      BLOB NOT NULL
) WITHOUT ROWID;

-- Counters and times that `sshbell status` shows.
CREATE TABLE status (
    name      TEXT PRIMARY KEY,
    value     INTEGER NOT NULL
) WITHOUT ROWID;

-- Texts that `sshbell status` shows: the version that runs.
CREATE TABLE note (
    name      TEXT PRIMARY KEY,
    text      TEXT NOT NULL
) WITHOUT ROWID;
