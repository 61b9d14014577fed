-- Whether a run chooses itself what training goes on from; `start_from` is 'stable' then, since it accepts no other value.
-- Null for runs that were asked for before.
alter table runs add column start_auto boolean;
