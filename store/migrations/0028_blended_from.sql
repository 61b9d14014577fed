-- Adapters that were combined from others: each parent with its weight, and the release that it was named by.
create table adapter_parents (
    adapter varchar not null,
    place integer not null,
    parent varchar not null,
    weight double not null,
    release varchar not null,
    primary key (adapter, place)
);

-- One row an adapter and each adapter it stands on, itself included at depth 0: where its training began, or what it was
-- combined from; the nearest way counts.
create or replace view adapter_ancestry as
with recursive steps as (
    select id as adapter, start_adapter as parent from adapters where start_adapter is not null
    union
    select adapter, parent from adapter_parents
),
line as (
    select id as adapter, id as ancestor, 0 as depth from adapters
    union
    select line.adapter, steps.parent, line.depth + 1
    from line
    join steps on steps.adapter = line.ancestor
    join adapters on adapters.id = steps.parent
    where line.depth < 1000
)
select adapter, ancestor, min(depth) as depth
from line
group by adapter, ancestor;
