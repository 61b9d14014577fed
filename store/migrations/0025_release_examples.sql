-- The examples that stand in a release's system prompt, with the rows that they are from: an erasure takes them out of it.
create table release_examples (
    release varchar not null,
    place integer not null,
    reference varchar,
    prompt_hash varchar not null,
    text varchar not null,
    primary key (release, place)
);
