-- What sshbell blocks. The process guard is the only writer; a command writes if no guard is running.

-- One row per order to block. The same order twice changes nothing, so removed rows stay until the order has ended.
CREATE TABLE entry (
    id         TEXT PRIMARY KEY,           -- of the event, or of the command
    target     TEXT NOT NULL,              -- 192.0.2.7, 2001:db8::/64 or user:alice
    begin_us   INTEGER NOT NULL,           -- microseconds since 1970 UTC, by the wall clock
    until_us   INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    service    TEXT NOT NULL,              -- %s of the commands
    exceptions TEXT NOT NULL,              -- a JSON list: from where a blocked user may still log in
    removed_us INTEGER,                    -- somebody has removed it by hand
    imported   INTEGER NOT NULL DEFAULT 0  -- 1: another machine has decided it
) WITHOUT ROWID;
CREATE INDEX entry_until ON entry (until_us);
CREATE INDEX entry_target ON entry (target);

-- The allow list: the last good answer of each source.
CREATE TABLE allowed (
    source     TEXT NOT NULL,              -- "name vpn.example.org", "file /etc/sshbell/offices", "this host"
    target     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    until_us   INTEGER,                    -- NULL: no end
    PRIMARY KEY (source, target)
) WITHOUT ROWID;

-- The targets for which the command for a block has begun, but that for its end has not ended.
CREATE TABLE commanded (
    target     TEXT PRIMARY KEY,
    service    TEXT NOT NULL
) WITHOUT ROWID;

-- Texts for "sshbell status": what is being enforced, and the last fault of each part.
CREATE TABLE note (
    name       TEXT PRIMARY KEY,
    text       TEXT NOT NULL
) WITHOUT ROWID;
