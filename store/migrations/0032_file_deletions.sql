-- Which snapshots hold rows of uploaded files that were deleted: their files on the disk go after the commit, or at a start.
create table file_deletions (
    file varchar not null,
    snapshots varchar[] not null,
    created_at timestamp not null
);
