-- A hash of the first and the last answer of each sketched row (chosen and rejected of a pair): which rows of prompts that
-- are alike say the same, or the opposite. What is there is made again by the next refresh.
delete from row_sketches;
delete from near_progress;
alter table row_sketches add column first_hash ubigint;
alter table row_sketches add column last_hash ubigint;
