-- Lineage as one question: a row for each release, each row it learned from (itself or through an adapter below), and
-- each voice behind that row; an imported row without a voice comes once. Held-out rows taught nothing and are left out.
create view release_lineage as
select releases.id as release, releases.deployment || '@' || releases.number as ref, line.ancestor as adapter, line.depth,
    runs.id as run, runs.snapshot as snapshot, members.item_id, evidence.kind, evidence.ref as voice,
    votes.comparison_id as comparison, coalesce(evidence.person, likes.user_name) as person,
    coalesce(pairs.prompt_hash, demonstrations.prompt_hash, likes.prompt_hash) as prompt_hash,
    coalesce(pairs.import_id, demonstrations.import_id, likes.import_id) as import_id
from releases
join adapter_ancestry as line on line.adapter = releases.adapter
join adapters on adapters.id = line.ancestor
join runs on runs.id = adapters.run
join snapshot_members as members on members.snapshot_id = runs.snapshot and members.split = 'train'
left join evidence on evidence.subject_id = members.item_id
left join votes on votes.id = evidence.ref
left join pairs on pairs.id = members.item_id
left join demonstrations on demonstrations.id = members.item_id
left join likes on likes.id = members.item_id;
