-- Seconds that a streamed answer spent on reasoning before its text or first tool call; null where there was none.
alter table completions add column thought_s double;
