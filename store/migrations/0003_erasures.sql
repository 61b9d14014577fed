-- Erasures of a person: what went, by id only. The name is not kept.
create table erasures (
    id varchar primary key,
    actor varchar,
    report json not null,
    created_at timestamp not null
);

create table erased_items (erasure_id varchar not null, item_id varchar not null);

-- Adapters that learned from something that has been erased since, themselves or through where their training began.
create view tainted_adapters as
select distinct adapter_ancestry.adapter, erased_items.erasure_id
from adapter_ancestry
join adapter_snapshots on adapter_snapshots.adapter = adapter_ancestry.ancestor
join snapshot_members on snapshot_members.snapshot_id = adapter_snapshots.snapshot_id and split = 'train'
join erased_items using (item_id);
