-- What people say of single answers besides a thumb: a number under a key (a score, a named metric), or a comment. One row
-- per answer, key and person; a later rating takes the place of the former. `user_name` is the person, else the name of the key.
create table ratings (
    id varchar primary key,
    completion_id varchar not null,
    key varchar not null,
    value double,
    comment varchar,
    user_name varchar not null,
    created_at timestamp not null,
    updated_at timestamp not null
);
create index ratings_completion on ratings (completion_id);
