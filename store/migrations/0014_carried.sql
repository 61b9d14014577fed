-- What messages carry beside role and text (tool calls, reasoning, names), as JSON by part and place:
-- {"chosen": {"0": {"tool_calls": [...]}}}. Null where all messages of the row are plain.
alter table pairs add column carried varchar;
alter table demonstrations add column carried varchar;
alter table likes add column carried varchar;
