-- The store of `sshbell worker` in PostgreSQL: the tables of state.sql and delivery.sql, where their comments are, in one database.

CREATE TABLE event (
    id        text PRIMARY KEY,
    time_us   bigint NOT NULL,
    action    text NOT NULL,
    host      text NOT NULL,
    "user"    text,
    uid       bigint,
    address   text,
    port      bigint,
    method    text,
    info      text,
    origin    text NOT NULL,
    count     bigint NOT NULL,
    reason    text,
    ambiguous boolean NOT NULL,
    login_id  text,
    factors   text,
    found     text,
    code      text
);
CREATE INDEX event_time ON event (time_us);
CREATE INDEX event_block ON event (time_us) WHERE action = 'ssh_block';

CREATE TABLE session (
    login_id  text PRIMARY KEY,
    host      text NOT NULL,
    "user"    text,
    uid       bigint,
    address   text,
    port      bigint,
    method    text,
    info      text,
    origin    text NOT NULL,
    ambiguous boolean NOT NULL,
    opened_us bigint NOT NULL,
    closed_us bigint,
    factors   text,
    code      text
);
CREATE INDEX session_opened ON session (opened_us);
CREATE INDEX session_host ON session (host, closed_us, opened_us);
CREATE INDEX session_by_user ON session ("user", info, address, host, opened_us);

CREATE TABLE sender (
    address   text NOT NULL,
    host      text NOT NULL,
    seen_us   bigint NOT NULL,
    PRIMARY KEY (address, host)
);

-- Several workers add messages at the same time, so a number that a worker took could become visible after a higher one. So
-- `deliver`, of which there is one, gives the numbers.
CREATE TABLE outbox (
    event_id  text PRIMARY KEY,
    added     bigint GENERATED ALWAYS AS IDENTITY,
    seq       bigint UNIQUE,               -- NULL: deliver has not seen it yet
    action    text NOT NULL,
    queued_us bigint NOT NULL,
    body      bytea NOT NULL
);
CREATE INDEX outbox_new ON outbox (added) WHERE seq IS NULL;
CREATE SEQUENCE outbox_seq;

CREATE TABLE partition (
    topic       text NOT NULL,
    number      bigint NOT NULL,
    epoch       bigint NOT NULL,
    next_offset bigint,
    PRIMARY KEY (topic, number)
);

CREATE TABLE gathering (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body        bytea NOT NULL
);

CREATE TABLE partition_snapshot (
    topic     text NOT NULL,
    number    bigint NOT NULL,
    part      bytea NOT NULL,
    piece     bigint NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (topic, number, part, piece)
);

CREATE TABLE status (
    name      text PRIMARY KEY,
    value     bigint NOT NULL
);
INSERT INTO status VALUES ('created_us', extract(epoch FROM now()) * 1000000);

CREATE TABLE note (
    name      text PRIMARY KEY,
    text      text NOT NULL
);

CREATE TABLE delivery (
    event_id  text NOT NULL,
    channel   text NOT NULL,
    seq       bigint NOT NULL,
    state     text NOT NULL CHECK (state IN ('pending', 'sent', 'dead', 'dropped')),
    attempts  bigint NOT NULL DEFAULT 0,
    queued_us bigint NOT NULL,
    next_us   bigint NOT NULL,
    done_us   bigint,
    reason    text,
    digest    text,
    body      bytea NOT NULL,
    budget    text NOT NULL DEFAULT '',
    hold      text NOT NULL DEFAULT '',
    free_us   bigint NOT NULL DEFAULT 0,
    urgent    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (event_id, channel)
);
CREATE INDEX delivery_pending ON delivery (channel, seq) WHERE state = 'pending' AND hold = '';
CREATE INDEX delivery_login ON delivery (channel, seq, budget) WHERE state = 'pending' AND hold = '' AND budget <> '';
CREATE INDEX delivery_urgent ON delivery (channel, seq) WHERE state = 'pending' AND hold = '' AND urgent;
CREATE INDEX delivery_hold ON delivery (channel, hold, seq) WHERE state = 'pending' AND hold <> '';
CREATE INDEX delivery_digest ON delivery (channel, digest) WHERE digest IS NOT NULL;
CREATE INDEX delivery_done ON delivery (done_us) WHERE state <> 'pending';

CREATE TABLE channel (
    name            text PRIMARY KEY,
    last_success_us bigint,
    last_error_us   bigint,
    last_error      text,
    failures        bigint NOT NULL DEFAULT 0,
    retry_us        bigint NOT NULL DEFAULT 0
);

CREATE TABLE budget (
    channel   text NOT NULL,
    name      text NOT NULL,
    tokens    double precision,
    tokens_us bigint NOT NULL,
    PRIMARY KEY (channel, name)
);
CREATE INDEX budget_spent ON budget (channel) WHERE tokens < 1;

CREATE TABLE hold (
    channel   text NOT NULL,
    name      text NOT NULL,
    due_us    bigint,
    window_us bigint NOT NULL,
    omitted   bigint NOT NULL DEFAULT 0,
    urgent    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (channel, name)
);
CREATE INDEX hold_due ON hold (channel, due_us) WHERE due_us IS NOT NULL;

CREATE TABLE cursor (
    seq       bigint NOT NULL,
    event_id  text NOT NULL,
    base      bigint NOT NULL,
    ahead     bigint NOT NULL DEFAULT 0,
    ahead_id  text NOT NULL DEFAULT ''
);
INSERT INTO cursor VALUES (0, '', 0, 0, '');

-- Functions of SQLite that the shared statements use.
CREATE FUNCTION max(bigint, bigint) RETURNS bigint IMMUTABLE PARALLEL SAFE LANGUAGE sql AS 'SELECT greatest($1, $2)';
CREATE FUNCTION json_each(text) RETURNS TABLE (value text) IMMUTABLE PARALLEL SAFE LANGUAGE sql
    AS 'SELECT json_array_elements_text($1::json)';

CREATE TABLE version (number bigint NOT NULL);
INSERT INTO version VALUES (2);
