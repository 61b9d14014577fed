-- A conversation has one owner, the person, else the key, that said its first turn; others who used its id get one of
-- their own (store.feedback.conversation_owners). Turns that were shared before are moved, with the messages that they stand on.
-- `given_id` is the id that the client gave, `source` what the conversation came from, `task` what a program wanted.
alter table conversations add column given_id varchar;
alter table conversations add column key_id varchar;
alter table conversations add column source varchar;
alter table conversations add column task varchar;
alter table keys add column stores boolean default true;

create temp table first_turns as
select distinct on (conversation_id) conversation_id, user_name, key_id
from completions
order by conversation_id, created_at, id;

-- What came with a key was a program's or a front end's, what came with a person's session was Chat's; in single-user
-- mode nobody can tell any more.
update conversations
set given_id = conversations.id,
    key_id = case when conversations.user_name is null and first_turns.user_name is null then first_turns.key_id end,
    source = case
        when conversations.id like 'cli-%' then 'cli'
        when first_turns.key_id is not null then 'api'
        when first_turns.user_name is not null then 'chat'
        else 'earlier'
    end
from first_turns
where first_turns.conversation_id = conversations.id;
update conversations set given_id = id, source = 'earlier' where given_id is null;

create temp table moved as
with turns as (
    select *,
        case when user_name is not null then 'user ' || user_name when key_id is not null then 'key ' || key_id else '' end
            as owner
    from completions
),
owners as (
    select id,
        case when user_name is not null then 'user ' || user_name when key_id is not null then 'key ' || key_id else '' end
            as owner
    from conversations
)
select turns.*, 'conv-' || left(sha256(turns.owner || chr(0) || turns.conversation_id), 26) as new_id
from turns
join owners on owners.id = turns.conversation_id
where turns.owner <> owners.owner;

-- The messages that the moved turns stand on, from leaf to root.
create temp table needed as
with recursive up as (
    select new_id, unnest([prompt_id, message_id]) as node from moved
    union
    select up.new_id, messages.parent_id from up join messages on messages.id = up.node
)
select distinct new_id, node from up where node is not null;

-- From root to leaf, since a message's id is the hash of conversation, parent, role and text.
create temp table copied as
with recursive down as (
    select needed.new_id, messages.id as node, null::varchar as parent, messages.role, messages.content, messages.created_at,
        sha256(concat_ws(chr(0), needed.new_id, '', messages.role, messages.content)) as id
    from needed
    join messages on messages.id = needed.node
    where messages.parent_id is null
    union all
    select down.new_id, messages.id, down.id, messages.role, messages.content, messages.created_at,
        sha256(concat_ws(chr(0), down.new_id, down.id, messages.role, messages.content))
    from down
    join messages on messages.parent_id = down.node
    join needed on needed.new_id = down.new_id and needed.node = messages.id
)
from down;

create temp table kept as
with recursive up as (
    select unnest([prompt_id, message_id]) as node
    from completions
    where conversation_id in (select conversation_id from moved) and id not in (select id from moved)
    union
    select messages.parent_id from up join messages on messages.id = up.node
)
select distinct node from up where node is not null;

insert into conversations (id, user_name, key_id, given_id, source, deployment, created_at, updated_at)
select new_id, any_value(moved.user_name), if(any_value(moved.user_name) is null, any_value(moved.key_id), null),
    any_value(moved.conversation_id),
    case
        when bool_or(moved.key_id is not null) then 'api' when bool_or(moved.user_name is not null) then 'chat' else 'earlier'
    end,
    arg_max(moved.deployment, moved.created_at), min(moved.created_at), max(moved.created_at)
from moved
group by new_id;

insert into messages (id, conversation_id, parent_id, role, content, created_at)
select id, any_value(new_id), any_value(parent), any_value(role), any_value(content), min(created_at)
from copied
group by id;

update completions
set conversation_id = placed.new_id, prompt_id = placed.prompt, message_id = placed.message
from (
    select moved.id, moved.new_id, prompts.id as prompt, answers.id as message
    from moved
    left join copied as prompts on prompts.new_id = moved.new_id and prompts.node = moved.prompt_id
    left join copied as answers on answers.new_id = moved.new_id and answers.node = moved.message_id
) as placed
where completions.id = placed.id;

delete from messages
where conversation_id in (select conversation_id from moved) and id not in (select node from kept);

drop table first_turns;
drop table moved;
drop table needed;
drop table copied;
drop table kept;
