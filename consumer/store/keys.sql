-- Keys of other hosts, as their `sshbell keys export` wrote them down; `sshbell keys import` writes it.

CREATE TABLE host (
    name        TEXT PRIMARY KEY,          -- as its log lines have it, in small letters
    exported_us INTEGER NOT NULL,          -- by its own clock, but not later than the import
    imported_us INTEGER NOT NULL
) WITHOUT ROWID;

-- One row a line that allows a key.
CREATE TABLE key (
    host        TEXT NOT NULL,
    sha256      TEXT NOT NULL,             -- SHA256: and unpadded base64
    account     TEXT NOT NULL,             -- "": all accounts, of an authority in TrustedUserCAKeys
    number      INTEGER NOT NULL,          -- of the line in the export
    md5         TEXT NOT NULL,             -- MD5: and hex
    comment     TEXT NOT NULL,
    options     TEXT NOT NULL,             -- a JSON list
    authority   INTEGER NOT NULL,          -- 1: of certificates
    PRIMARY KEY (host, sha256, account, number)
) WITHOUT ROWID;
CREATE INDEX key_md5 ON key (host, md5);
