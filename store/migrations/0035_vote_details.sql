-- What a vote says beside its choice (store/feedback/vote_details.py): `reasons` by side as JSON, `unsafe` the sides. `revised`
-- marks a vote whose rater took back another one on the same comparison, after its releases were revealed.
alter table votes add column strength varchar;
alter table votes add column reasons json;
alter table votes add column comment varchar;
alter table votes add column unsafe varchar[];
alter table votes add column revised boolean;

-- Votes that their raters took back: nothing is made of them. `releases` are those that had learned from one (record ids).
create table undone_votes (
    id varchar primary key,
    comparison_id varchar not null,
    rater varchar not null,
    choice varchar not null,
    releases varchar[] not null,
    cast_at timestamp not null,
    undone_at timestamp not null
);
create index undone_votes_comparison on undone_votes (comparison_id);

-- Comparisons that a rater left undecided for a reason; they do not come back to this rater.
create table skips (
    comparison_id varchar not null,
    rater varchar not null,
    reason varchar not null,
    comment varchar,
    created_at timestamp not null,
    primary key (comparison_id, rater)
);
