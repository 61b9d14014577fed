-- Every noun of the platform. Times are UTC without zone. Hashes and tokens are SHA-256 in hex; no secret is kept.
-- Foreign keys are left out on purpose: DuckDB has no cascade, and an update of a referenced row is refused as if
-- it were a delete. `store.maintenance.verify` checks every reference instead.

create table users (
    name varchar primary key,
    id varchar not null,
    roles varchar[] not null,
    password_hash varchar,
    created_at timestamp not null
);

create table sessions (
    token_hash varchar primary key,
    user_name varchar not null,
    created_at timestamp not null,
    expires_at timestamp not null
);

create table keys (
    id varchar primary key,
    name varchar not null,
    roles varchar[] not null,
    user_name varchar,
    secret_hash varchar not null unique,
    hint varchar not null,
    created_at timestamp not null,
    revoked_at timestamp
);

create table conversations (
    id varchar primary key,
    user_name varchar,
    deployment varchar,
    created_at timestamp not null,
    updated_at timestamp not null
);

-- A tree: an id is the hash of conversation, parent, role and content, so a turn that is sent again is stored once
-- and a regenerated answer is a sibling.
create table messages (
    id varchar primary key,
    conversation_id varchar not null,
    parent_id varchar,
    role varchar not null,
    content varchar not null,
    created_at timestamp not null
);
create index messages_conversation on messages (conversation_id);

-- One row an answer of a model: what was asked (prompt_id), what came back (message_id), and who gave it.
create table completions (
    id varchar primary key,
    conversation_id varchar not null,
    prompt_id varchar,
    message_id varchar,
    deployment varchar,
    release varchar,
    lane varchar,
    model varchar,
    user_name varchar,
    key_id varchar,
    prompt_tokens integer,
    completion_tokens integer,
    finish_reason varchar,
    first_token_s double,
    seconds double,
    error varchar,
    created_at timestamp not null
);
create index completions_conversation on completions (conversation_id);

create sequence comparison_seq;
create table comparisons (
    id varchar primary key,
    seq bigint not null default nextval('comparison_seq'),
    messages struct(role varchar, content varchar)[] not null,
    prompt_hash varchar not null,
    versus_hash varchar not null,
    deployment varchar,
    source varchar not null,
    asked_by varchar,
    state varchar not null check (state in ('open', 'decided', 'withdrawn')),
    votes_wanted integer not null check (votes_wanted > 0),
    votes_given integer not null default 0 check (votes_given <= votes_wanted),
    gold varchar check (gold in ('a', 'b', 'tie', 'both_bad')),
    created_at timestamp not null,
    decided_at timestamp
);

create table candidates (
    comparison_id varchar not null,
    side varchar not null check (side in ('a', 'b')),
    content varchar not null,
    release varchar,
    lane varchar,
    model varchar,
    completion_id varchar,
    sampling json,
    primary key (comparison_id, side)
);

create table votes (
    id varchar primary key,
    comparison_id varchar not null,
    rater varchar not null,
    choice varchar not null check (choice in ('a', 'b', 'tie', 'both_bad')),
    better varchar,
    tags varchar[] not null,
    seconds double,
    created_at timestamp not null,
    unique (comparison_id, rater)
);
create index votes_rater on votes (rater);

-- `deployment` is '' for a row that serves every deployment. `seq` and `id` rise together and carry no index: the blocks'
-- own minima and maxima find them as fast, and an import is not slowed down by two more indexes.
create sequence pair_seq;
create table pairs (
    seq bigint not null default nextval('pair_seq'),
    id varchar not null,
    content_hash varchar not null,
    versus_hash varchar not null,
    prompt_hash varchar not null,
    prompt struct(role varchar, content varchar)[] not null,
    chosen struct(role varchar, content varchar)[] not null,
    rejected struct(role varchar, content varchar)[] not null,
    prompt_chars integer not null,
    chosen_chars integer not null,
    rejected_chars integer not null,
    weight double not null,
    tags varchar[] not null,
    deployment varchar not null,
    source varchar not null,
    import_id varchar,
    created_at timestamp not null,
    unique (content_hash, deployment)
);

create sequence demonstration_seq;
create table demonstrations (
    seq bigint not null default nextval('demonstration_seq'),
    id varchar not null,
    content_hash varchar not null,
    prompt_hash varchar not null,
    prompt struct(role varchar, content varchar)[] not null,
    completion struct(role varchar, content varchar)[] not null,
    prompt_chars integer not null,
    completion_chars integer not null,
    tags varchar[] not null,
    deployment varchar not null,
    source varchar not null,
    import_id varchar,
    created_at timestamp not null,
    unique (content_hash, deployment)
);

-- Unpaired judgements of one completion: the KTO row.
create table likes (
    id varchar primary key,
    completion_id varchar unique,
    content_hash varchar not null,
    prompt_hash varchar not null,
    prompt struct(role varchar, content varchar)[] not null,
    completion struct(role varchar, content varchar)[] not null,
    liked boolean not null,
    deployment varchar not null,
    user_name varchar,
    source varchar not null,
    import_id varchar,
    created_at timestamp not null
);

-- Why a pair or demonstration is believed: one row a vote, rewrite or like that says so.
-- An imported row needs none: its import is its origin.
create table evidence (
    subject_id varchar not null,
    kind varchar not null check (kind in ('vote', 'rewrite', 'like')),
    ref varchar not null,
    person varchar,
    created_at timestamp not null,
    primary key (subject_id, kind, ref)
);
create index evidence_ref on evidence (ref);

create table imports (
    id varchar primary key,
    noun varchar not null check (noun in ('pairs', 'demonstrations', 'likes')),
    source varchar not null,
    imported_by varchar,
    deployment varchar not null,
    accepted bigint not null,
    duplicates bigint not null,
    rejected bigint not null,
    created_at timestamp not null
);

create table snapshots (
    id varchar primary key,
    deployment varchar not null,
    method varchar not null,
    directory varchar not null,
    settings json not null,
    report json not null,
    train_rows bigint not null,
    heldout_rows bigint not null,
    last_seq bigint not null,
    created_at timestamp not null
);

create table snapshot_members (
    snapshot_id varchar not null,
    item_id varchar not null,
    split varchar not null check (split in ('train', 'heldout')),
    weight double not null
);

create table runs (
    id varchar primary key,
    method varchar not null,
    deployment varchar not null,
    qlora boolean not null,
    params json not null,
    rollout varchar not null check (rollout in ('none', 'canary', 'promote')),
    gate varchar not null check (gate in ('enforce', 'report')),
    start_from varchar not null check (start_from in ('stable', 'base')),
    requested_by varchar,
    state varchar not null,
    step integer not null default 0,
    total_steps integer,
    base varchar,
    start_adapter varchar,
    snapshot varchar,
    adapter varchar,
    release varchar,
    evaluation varchar,
    gate_decision json,
    report json,
    error json,
    cancel_requested boolean not null default false,
    created_at timestamp not null,
    updated_at timestamp not null,
    finished_at timestamp
);

-- One sequence orders transitions and metrics of all runs: an event stream asks for what is above a number.
create sequence event_seq;
create table run_transitions (
    seq bigint primary key default nextval('event_seq'),
    run_id varchar not null,
    from_state varchar,
    to_state varchar not null,
    detail json not null,
    created_at timestamp not null
);

create table run_metrics (
    run_id varchar not null,
    step integer not null,
    seq bigint not null default nextval('event_seq'),
    metrics json not null,
    created_at timestamp not null,
    primary key (run_id, step)
);

create table adapters (
    id varchar primary key,
    base varchar not null,
    path varchar not null,
    rank integer,
    bytes bigint,
    target_modules varchar[] not null,
    run varchar,
    start_adapter varchar,
    parity json,
    created_by varchar,
    created_at timestamp not null
);

create table releases (
    id varchar primary key,
    deployment varchar not null,
    number integer not null check (number > 0),
    base varchar not null,
    adapter varchar,
    system_prompt varchar,
    sampling json not null,
    run varchar,
    created_by varchar,
    created_at timestamp not null,
    unique (deployment, number)
);

-- `earlier` is a JSON list of the releases that were stable before, oldest first: the rollback targets.
create table deployments (
    name varchar primary key,
    base varchar not null,
    stable varchar not null,
    canary varchar,
    canary_weight double,
    earlier json not null,
    created_at timestamp not null,
    updated_at timestamp not null
);

create sequence deployment_history_seq;
create table deployment_history (
    seq bigint primary key default nextval('deployment_history_seq'),
    deployment varchar not null,
    action varchar not null check (action in ('create', 'canary', 'promote', 'rollback')),
    stable varchar not null,
    canary varchar,
    canary_weight double,
    actor varchar,
    created_at timestamp not null
);

create table evaluations (
    id varchar primary key,
    release varchar not null,
    against varchar,
    suite varchar not null,
    state varchar not null,
    requested_by varchar,
    run varchar,
    report json,
    error json,
    created_at timestamp not null,
    updated_at timestamp not null
);

create sequence audit_seq;
create table audit (
    seq bigint primary key default nextval('audit_seq'),
    id varchar not null,
    actor varchar,
    action varchar not null,
    subject varchar not null,
    detail json not null,
    created_at timestamp not null
);

-- Which snapshot taught an adapter.
create view adapter_snapshots as
select adapters.id as adapter, runs.snapshot as snapshot_id
from adapters
join runs on runs.id = adapters.run
where runs.snapshot is not null;

-- One row an adapter and each adapter it stands on, itself included at depth 0.
create view adapter_ancestry as
with recursive line as (
    select id as adapter, id as ancestor, start_adapter, 0 as depth from adapters
    union
    select line.adapter, adapters.id, adapters.start_adapter, line.depth + 1
    from line
    join adapters on adapters.id = line.start_adapter
    where line.depth < 1000
)
select adapter, ancestor, depth from line;
