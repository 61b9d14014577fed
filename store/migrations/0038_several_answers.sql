-- Comparisons of up to four answers (sides a to d), each of which may go on for several turns: `turns` has their messages as JSON,
-- null for one answer; `content` then is the text of the last one.
create table candidates_of_several (
    comparison_id varchar not null,
    side varchar not null check (side in ('a', 'b', 'c', 'd')),
    content varchar not null,
    release varchar,
    lane varchar,
    model varchar,
    completion_id varchar,
    sampling json,
    finish_reason varchar,
    carried varchar,
    turns json,
    primary key (comparison_id, side)
);
insert into candidates_of_several
select comparison_id, side, content, release, lane, model, completion_id, sampling, finish_reason, carried, null from candidates;
drop table candidates;
alter table candidates_of_several rename to candidates;
create index candidates_comparison on candidates (comparison_id);

-- A vote on more than two: `places` are those of the sides a, b, ... (1 is best, the same for a tie), null for a vote on two.
-- `choice` is the side at the first place, `tie` where several share it.
create table votes_on_several (
    id varchar primary key,
    comparison_id varchar not null,
    rater varchar not null,
    choice varchar not null check (choice in ('a', 'b', 'c', 'd', 'tie', 'both_bad')),
    better varchar,
    tags varchar[] not null,
    seconds double,
    created_at timestamp not null,
    owner varchar,
    strength varchar,
    reasons json,
    comment varchar,
    unsafe varchar[],
    revised boolean,
    places integer[],
    unique (comparison_id, rater)
);
insert into votes_on_several
select id, comparison_id, rater, choice, better, tags, seconds, created_at, owner, strength, reasons, comment, unsafe, revised, null
from votes;
drop table votes;
alter table votes_on_several rename to votes;
create index votes_rater on votes (rater);

-- What each vote says of each two answers, seen from the first: a (the first is better), b, tie or both_bad.
create view decided_pairs as
select votes.id as vote_id, votes.comparison_id, rater, votes.created_at, revised,
    one.side as one_side, other.side as other_side, one.release as one_release, other.release as other_release,
    case
        when places is null then choice
        when places[ascii(one.side) - 96] < places[ascii(other.side) - 96] then 'a'
        when places[ascii(one.side) - 96] > places[ascii(other.side) - 96] then 'b'
        when choice = 'both_bad' then 'both_bad'
        else 'tie'
    end as outcome
from votes
join candidates one on one.comparison_id = votes.comparison_id
join candidates other on other.comparison_id = votes.comparison_id and one.side < other.side;
