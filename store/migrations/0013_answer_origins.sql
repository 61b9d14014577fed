-- Under which release an answer was given and how it ended, so that training renders it as it was served and never teaches
-- a cut answer as a finished one. `release` is a release's record id, '' the base model alone, null unknown (imports).
alter table candidates add column finish_reason varchar;
alter table pairs add column release varchar;
alter table pairs add column chosen_finish_reason varchar;
alter table pairs add column rejected_finish_reason varchar;
alter table demonstrations add column release varchar;
alter table demonstrations add column completion_finish_reason varchar;
alter table likes add column release varchar;
alter table likes add column completion_finish_reason varchar;

create temp table given as
select completions.id, coalesce(release, if(lane = 'base', '', null)) as release,
    coalesce(finish_reason, if(error is not null, 'error', null)) as finish_reason
from completions;

create temp table shown as
select comparison_id, side, content, coalesce(candidates.release, if(lane = 'base', '', null)) as release,
    given.finish_reason
from candidates
left join given on given.id = candidates.completion_id;

update candidates
set finish_reason = shown.finish_reason
from shown
where shown.comparison_id = candidates.comparison_id and shown.side = candidates.side
    and shown.finish_reason is not null;

-- A pair is rendered as its chosen answer was served; the one that a rewrite was preferred to, where people wrote that.
create temp table behind_pairs as
select subject_id, arg_min(chosen.release, votes.id) as release,
    arg_min(if(evidence.kind = 'vote', chosen.finish_reason, null), votes.id) as chosen_finish_reason,
    arg_min(if(evidence.kind = 'vote', other.finish_reason, chosen.finish_reason), votes.id) as rejected_finish_reason
from evidence
join votes on votes.id = evidence.ref
join pairs on pairs.id = evidence.subject_id
join shown as chosen on chosen.comparison_id = votes.comparison_id
    and if(evidence.kind = 'vote', chosen.side = votes.choice, chosen.content = pairs.rejected[1].content)
join shown as other on other.comparison_id = votes.comparison_id and other.side <> chosen.side
group by subject_id;

update pairs
set release = behind_pairs.release, chosen_finish_reason = behind_pairs.chosen_finish_reason,
    rejected_finish_reason = behind_pairs.rejected_finish_reason
from behind_pairs
where behind_pairs.subject_id = pairs.id;

create temp table behind_demonstrations as
select subject_id, min(given.release) as release, min(given.finish_reason) as finish_reason
from evidence
join given on given.id = evidence.ref
where evidence.kind = 'like'
group by subject_id
union all
select subject_id, if(min(release) = max(release), min(release), null), null
from evidence
join votes on votes.id = evidence.ref
join shown using (comparison_id)
where evidence.kind = 'rewrite' and subject_id like 'demo-%'
group by subject_id;

update demonstrations
set release = behind_demonstrations.release, completion_finish_reason = behind_demonstrations.finish_reason
from behind_demonstrations
where behind_demonstrations.subject_id = demonstrations.id;

update likes
set release = given.release, completion_finish_reason = given.finish_reason
from given
where given.id = likes.completion_id;

drop table behind_demonstrations;
drop table behind_pairs;
drop table shown;
drop table given;
