-- What an owner (`store.accounts.owners`) shares of what they say; who has no row shares what the settings say.
create table consents (
    owner varchar primary key,
    share varchar not null check (share in ('none', 'show', 'train')),
    updated_at timestamp not null
);

-- Whose words a comparison's prompt holds ([]: nobody's), and who cast a vote, and wrote its rewrite.
alter table comparisons add column owners varchar[];
alter table votes add column owner varchar;

-- Whose words the prompt of a completion holds: who asked, and in a conversation id that several used (their clients send
-- the whole conversation with each request), whoever said one of its texts first.
create view prompt_owners as
with recursive spoken as (
    select completions.id, conversation_id, prompt_id, completions.created_at,
        case when user_name is not null then 'user ' || user_name when key_id is not null then 'key ' || key_id else '' end
            as owner
    from completions
    where prompt_id is not null
),
shared as (select given_id from conversations group by given_id having count(*) > 1),
above as (
    select spoken.id, given_id, spoken.created_at, owner, prompt_id as node
    from spoken
    join conversations on conversations.id = conversation_id
    where given_id in (from shared)
    union
    select above.id, given_id, above.created_at, owner, parent_id
    from above
    join messages on messages.id = above.node
    where parent_id is not null
),
said as (
    select above.id,
        first_value(owner) over (partition by given_id, content order by above.created_at, above.id) as author
    from above
    join messages on messages.id = above.node
    where role = 'user'
)
select id as completion_id, owner from spoken
union
select id, author from said;

-- By its name alone nobody can tell a person from a key or from the operator of this machine: a name that no account has is
-- the operator's where it is one of the platform's own, else a key's, else a person's.
create temp table named as
select name,
    case
        when name in (select users.name from users) then 'user ' || name
        when name in ('local', 'operator') then ''
        when key_id is not null then 'key ' || key_id
        else 'user ' || name
    end as owner
from (select rater as name from votes union select asked_by from comparisons where asked_by is not null) as names
left join (select name, min(id) as key_id from keys where user_name is null group by name) as program using (name);

update votes set owner = named.owner from named where named.name = votes.rater;

-- The conversations whose prompts older comparisons show, found by their texts, from the last message up.
create temp table found as
with recursive asked as (
    select id as comparison, len(messages) as size, unnest(range(1, len(messages) + 1)) as place, messages
    from comparisons
    where gold is null and source in ('drawn', 'rank', 'named')
),
turns as (
    select comparison, size - place as above, size, messages[place].role as role, messages[place].content as content from asked
),
same as (
    select turns.comparison, completions.id, above, size, messages.parent_id
    from turns
    join messages using (role, content)
    join completions on completions.prompt_id = messages.id
    where above = 0
    union
    select turns.comparison, same.id, turns.above, turns.size, messages.parent_id
    from same
    join messages on messages.id = same.parent_id
    join turns using (comparison, role, content)
    where turns.above = same.above + 1
)
select comparison, min(id) as completion from same where above = size - 1 and parent_id is null group by comparison
union
select comparison_id, min(completion_id)
from candidates
join comparisons on comparisons.id = comparison_id
where source = 'shadow' and completion_id is not null
group by comparison_id;

create temp table whose as
select comparison, list(distinct owner) as owners
from found
join prompt_owners on completion_id = completion
group by comparison;

update comparisons set owners = whose.owners from whose where comparison = comparisons.id;
update comparisons
set owners = [named.owner]
from named
where owners is null and gold is null and named.name = asked_by;

drop table whose;
drop table found;
drop table named;
