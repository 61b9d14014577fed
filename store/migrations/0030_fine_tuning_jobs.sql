-- Jobs of OpenAI's fine-tuning API: each is a run that trains on the rows of uploaded files, on top of a release.
create table fine_tuning_jobs (
    id varchar primary key,
    run varchar not null unique,
    model varchar not null,
    start_release varchar not null,
    training_file varchar not null,
    validation_file varchar,
    hyperparameters json not null,
    suffix varchar,
    seed bigint not null,
    metadata json,
    created_at timestamp not null
);
