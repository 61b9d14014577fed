-- The vote that a row comes from: "both bad" makes a dislike of each answer. Null for thumbs and imports.
alter table likes add column vote_id varchar;
