-- The store of `sshbell run`, which is the only writer.

-- All events, by event.id; writing one twice changes nothing.
CREATE TABLE event (
    id        TEXT PRIMARY KEY,
    time_us   INTEGER NOT NULL,            -- microseconds since 1970 UTC, from the log
    action    TEXT NOT NULL,               -- event.action
    host      TEXT NOT NULL,
    user      TEXT,
    uid       INTEGER,
    address   TEXT,
    port      INTEGER,
    method    TEXT,                        -- with submethod, as sshd writes it: keyboard-interactive/pam
    info      TEXT,                        -- key or certificate, as sshd writes it after "ssh2: "
    origin    TEXT NOT NULL,               -- verified, unverified, forged
    count     INTEGER NOT NULL,            -- for an ssh_attempt: how many equal tries; for an ssh_forged: how many lines; for a finding: how many tries or lines
    reason    TEXT,                        -- for an ssh_forged: what the line claims
    ambiguous INTEGER NOT NULL,            -- 1: peer text could have forged the line
    login_id  TEXT,                        -- for an ssh_logout: its ssh_login
    factors   TEXT,                        -- with several factors, the methods in order: publickey,keyboard-interactive/pam
    found     TEXT,                        -- what only findings and blocks have, as JSON
    code      TEXT                         -- the one-time code of a login, as JSON
) WITHOUT ROWID;
CREATE INDEX event_time ON event (time_us);
CREATE INDEX event_block ON event (time_us) WHERE action = 'ssh_block';

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
    closed_us INTEGER,                     -- NULL: still open, or sshd never logged its end
    factors   TEXT,
    code      TEXT
) WITHOUT ROWID;
CREATE INDEX session_opened ON session (opened_us);
CREATE INDEX session_open ON session (opened_us) WHERE closed_us IS NULL;
CREATE INDEX session_host ON session (host, closed_us, opened_us);
CREATE INDEX session_user ON session (user, info, address, host, opened_us);

-- The addresses from which a relay has received a host's lines, from rsyslog.
CREATE TABLE sender (
    address   TEXT NOT NULL,
    host      TEXT NOT NULL,
    seen_us   INTEGER NOT NULL,            -- wall clock, to the hour
    PRIMARY KEY (address, host)
);

-- The messages to send, in the order of the events; `sshbell deliver` reads it.
CREATE TABLE outbox (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id  TEXT NOT NULL UNIQUE,
    action    TEXT NOT NULL,
    queued_us INTEGER NOT NULL,            -- wall clock
    body      BLOB NOT NULL                -- the event as JSON, as `sshbell replay --format json` writes it
);

-- The memory of the pipeline at the start of a segment of the intake journal, in parts, each in pieces.
CREATE TABLE snapshot (
    part      TEXT NOT NULL,
    piece     INTEGER NOT NULL,            -- from 0 on
    body      BLOB NOT NULL,
    PRIMARY KEY (part, piece)
) WITHOUT ROWID;

-- Counters and times that `sshbell status` shows.
CREATE TABLE status (
    name      TEXT PRIMARY KEY,
    value     INTEGER NOT NULL
) WITHOUT ROWID;

-- When sshbell created this file: before that, it knows nothing.
INSERT INTO status VALUES ('created_us', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);

-- Texts that `sshbell status` shows, such as the running version.
CREATE TABLE note (
    name      TEXT PRIMARY KEY,
    text      TEXT NOT NULL
) WITHOUT ROWID;
