-- Files that clients of OpenAI's API uploaded. Their rows are in pairs or demonstrations, whose `deployment` is then the
-- file's id: no run but a fine-tuning job of the file uses them. A file is `importing` until all its rows are stored.
create table uploaded_files (
    id varchar primary key,
    filename varchar not null,
    purpose varchar not null,
    kind varchar not null check (kind in ('supervised', 'dpo')),
    size bigint not null,
    row_count bigint not null,
    status varchar not null check (status in ('importing', 'processed')),
    created_by varchar,
    created_at timestamp not null
);
