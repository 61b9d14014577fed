-- Fingerprints by number: prompts by the first 64 bits of their hash, rows by noun and seq, sketches of 128 bits.
-- What was there was made with another library and is made again by the next refresh.
drop table prompt_prints;
drop table row_sketches;
drop table near_prompts;
drop table near_rows;
delete from near_progress;

-- Locality-sensitive keys of each distinct prompt: two prompts that share one are candidates.
create table prompt_prints (prompt_key ubigint not null, bands ubigint[] not null);

-- A 128-bit sketch (1-bit MinHash) of the answers of each row whose prompt others share, exactly or nearly.
create table row_sketches (noun varchar not null, seq bigint not null, high ubigint not null, low ubigint not null);

-- Verified likeness: Jaccard similarity of the words and word pairs. `other` is what was there first.
create table near_prompts (prompt_key ubigint not null, other ubigint not null, similarity double not null);
create table near_rows (noun varchar not null, seq bigint not null, other bigint not null, similarity double not null);
