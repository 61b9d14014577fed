"""The one DuckDB file: every word, vote and weight. Knows no HTTP, no model and no other package of ours."""
