-- What was used by day (UTC) and by whoever paid for it: `holder` is `user NAME`, a key's id, or another caller's name;
-- `name` is what budgets and people call it. A request of a person with a key is counted under both.
create table usage (
    day date not null,
    holder varchar not null,
    name varchar not null,
    requests bigint not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    primary key (day, holder)
);
