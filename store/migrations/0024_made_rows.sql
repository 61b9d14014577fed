-- Rows that no person judged: pairs that rules, a judge or a better release decided, and answers distilled from a prompted
-- release. `source` is the kind and what decided, `release` whose answers were sampled, `owners` whose words the prompt holds.
create table made_rows (
    id varchar primary key,
    kind varchar not null check (kind in ('rules', 'judge', 'release', 'distilled')),
    source varchar not null,
    job varchar not null,
    release varchar not null,
    prompt_hash varchar not null,
    owners varchar[] not null,
    detail json not null,
    created_at timestamp not null
);

-- Evidence may be of a made row, too.
create table evidence_of_made (
    subject_id varchar not null,
    kind varchar not null check (kind in ('vote', 'rewrite', 'like', 'made')),
    ref varchar not null,
    person varchar,
    created_at timestamp not null,
    primary key (subject_id, kind, ref)
);
insert into evidence_of_made select subject_id, kind, ref, person, created_at from evidence;
drop table evidence;
alter table evidence_of_made rename to evidence;
create index evidence_ref on evidence (ref);
