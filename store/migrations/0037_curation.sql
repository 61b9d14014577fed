-- What an operator decided about single rows of the training data: left out, or approved. A row has at most one review.
create table row_reviews (
    item_id varchar primary key,
    state varchar not null,
    reason varchar not null,
    actor varchar,
    created_at timestamp not null
);
-- Searches among the rows that somebody keeps under a name.
create table saved_views (
    name varchar primary key,
    noun varchar not null,
    filters json not null,
    created_by varchar,
    created_at timestamp not null
);
