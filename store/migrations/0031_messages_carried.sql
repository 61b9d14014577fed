-- What a message of a conversation carries beside role and text (see store/carried.py), as JSON; null where it is plain.
alter table messages add column carried varchar;
