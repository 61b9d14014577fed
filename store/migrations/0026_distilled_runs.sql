-- Whether a run makes a release without the system prompt of stable, since it learned to answer as with one.
alter table runs add column no_system_prompt boolean;
