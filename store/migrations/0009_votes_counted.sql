-- Erasures took votes away and left their comparisons decided: those that have too few wait for votes again.
update comparisons
set votes_given = given,
    state = case when state = 'decided' and given < votes_wanted then 'open' else state end,
    decided_at = case when given < votes_wanted then null else decided_at end
from (
    select comparisons.id as counted, count(votes.id) as given
    from comparisons
    left join votes on votes.comparison_id = comparisons.id
    group by comparisons.id
)
where id = counted and votes_given <> given;
