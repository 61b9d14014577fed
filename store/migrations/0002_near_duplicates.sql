-- Fingerprints for finding near duplicates, made after the rows arrive (store.near_duplicates.index). No text is kept here.

-- How far each noun has been fingerprinted.
create table near_progress (noun varchar primary key, seq bigint not null);

-- Locality-sensitive keys of each distinct prompt: two prompts that share one are candidates.
create table prompt_prints (prompt_hash varchar not null, bands ubigint[] not null);

-- A 64-bit sketch (1-bit MinHash) of the answers of each row.
create table row_sketches (id varchar not null, prompt_hash varchar not null, sketch ubigint not null);

-- Verified likeness: Jaccard similarity of the words and word pairs. `other` is what was there first.
create table near_prompts (prompt_hash varchar not null, other varchar not null, similarity double not null);
create table near_rows (id varchar not null, other varchar not null, similarity double not null);
