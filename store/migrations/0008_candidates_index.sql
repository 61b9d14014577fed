-- A vote and a page look the candidates of one comparison up; the primary key of two columns serves no look-ups in DuckDB.
create index candidates_comparison on candidates (comparison_id);
