-- Long tasks besides runs, evaluations and imports: what was asked, how it stands, what it found. `params_hash` finds the
-- unfinished job of the same parameters, which asking again continues.
create table jobs (
    id varchar primary key,
    kind varchar not null,
    state varchar not null check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
    params json not null,
    params_hash varchar not null,
    requested_by varchar,
    result json,
    error json,
    created_at timestamp not null,
    updated_at timestamp not null
);

-- What a job has done so far, by keys of its own: a job that is resumed goes on after these. `prompt_hash` and `owners` are of
-- the prompt in it, if any, so that an erasure reaches it.
create table job_parts (
    job varchar not null,
    key varchar not null,
    value json not null,
    prompt_hash varchar,
    owners varchar[],
    primary key (job, key)
);
