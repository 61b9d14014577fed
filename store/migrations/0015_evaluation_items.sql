-- What each single measurement of an evaluation found; reports are computed from it. `reference` is the pair, demonstration
-- or like whose prompt was asked, with that prompt's hash, so that an erasure reaches it; "neutral:" and "suite:" begin
-- those of prompts that nobody said.
create table evaluation_items (
    evaluation varchar not null,
    seq integer not null,
    measure varchar not null,
    cluster varchar not null,
    item varchar not null,
    side varchar not null,
    reference varchar,
    prompt_hash varchar,
    answer varchar,
    finish_reason varchar,
    tokens integer,
    seconds double,
    value double,
    detail json not null,
    primary key (evaluation, seq)
);
