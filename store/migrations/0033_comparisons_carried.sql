-- What the messages of a comparison carry beside role and text (see store/carried.py), as JSON by place:
-- {"messages": {"0": {"tools": ...}}}; and what a candidate carries (tool calls, reasoning). Null where it is plain.
alter table comparisons add column carried varchar;
alter table candidates add column carried varchar;
