-- The evaluation and its item (what was asked) whose two answers a comparison shows, for a win rate by people.
alter table comparisons add column evaluation varchar;
alter table comparisons add column evaluation_item varchar;
