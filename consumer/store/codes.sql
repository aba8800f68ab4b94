-- One-time codes at login. The commands that PAM runs write it, and those for emergency codes. There is no code in it: a digest
-- can be checked only with the key beside this file.

-- One row per login that sshbell asked, for a day.
CREATE TABLE challenge (
    session    TEXT PRIMARY KEY,           -- the number that prompt and message show
    kind       TEXT NOT NULL,              -- "code"; "emergency": only such a code counts; "none": no code is needed; "decoy": no such user
    digest     BLOB NOT NULL,              -- of the code; empty if there is none
    user       TEXT NOT NULL,
    address    TEXT NOT NULL,              -- "" on a console
    network    TEXT NOT NULL,              -- the same, or the /64 of an IPv6 address: the limits count it as one
    service    TEXT NOT NULL,
    pid        INTEGER NOT NULL,           -- of the process that asks, and its start in clock ticks since the boot: no two have both
    started    INTEGER NOT NULL,
    channel    TEXT NOT NULL,              -- that took the code; "" for none
    made_us    INTEGER NOT NULL,           -- microseconds since 1970 UTC, by the wall clock
    until_us   INTEGER NOT NULL,
    tries      INTEGER NOT NULL,           -- wrong ones
    tried_us   INTEGER,                    -- the last of them
    used_us    INTEGER                     -- the login succeeded
) WITHOUT ROWID;
CREATE INDEX challenge_asker ON challenge (pid, started);
CREATE INDEX challenge_made ON challenge (made_us);
CREATE INDEX challenge_user ON challenge (user, made_us);
CREATE INDEX challenge_network ON challenge (network, made_us);

-- Printed codes, for a day without a channel.
CREATE TABLE emergency (
    user       TEXT NOT NULL,
    digest     BLOB NOT NULL,
    made_us    INTEGER NOT NULL,
    used_us    INTEGER,
    PRIMARY KEY (user, digest)
) WITHOUT ROWID;

-- When sshbell last reported to a user that somebody asks for many codes.
CREATE TABLE warned (
    user       TEXT PRIMARY KEY,
    time_us    INTEGER NOT NULL
) WITHOUT ROWID;
