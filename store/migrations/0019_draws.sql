-- How the prompt of a comparison was drawn (`trimtab.draws`): by which queue (uniform, teach, releases), and the chance with
-- which this prompt and these releases were. Null where nothing was drawn, or before draws were recorded.
alter table comparisons add column queue varchar;
alter table comparisons add column propensity double;
