-- Keys of other hosts, from their `sshbell keys export`. `sshbell keys import` writes this database.

CREATE TABLE host (
    name        TEXT PRIMARY KEY,          -- as in its log lines, in lower case
    exported_us INTEGER NOT NULL,          -- by that host's clock, but not later than the import
    imported_us INTEGER NOT NULL
) WITHOUT ROWID;

-- One row per line that allows a key.
CREATE TABLE key (
    host        TEXT NOT NULL,
    sha256      TEXT NOT NULL,             -- SHA256: and unpadded base64
    account     TEXT NOT NULL,             -- "": all accounts, for an authority in TrustedUserCAKeys
    number      INTEGER NOT NULL,          -- of the line in the export
    md5         TEXT NOT NULL,             -- MD5: and hex
    comment     TEXT NOT NULL,
    options     TEXT NOT NULL,             -- a JSON list
    authority   INTEGER NOT NULL,          -- 1: it signs certificates
    PRIMARY KEY (host, sha256, account, number)
) WITHOUT ROWID;
CREATE INDEX key_md5 ON key (host, md5);
