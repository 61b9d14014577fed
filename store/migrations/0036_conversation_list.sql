-- What people make of their list of conversations: a name and a folder of their own, which ones stay on top, and which ones
-- were deleted (hidden since then, and erased once the time for undoing has passed).
alter table conversations add column named varchar;
alter table conversations add column folder varchar;
alter table conversations add column pinned boolean;
alter table conversations add column deleted_at timestamp;

-- Read-only links for others who may sign in: to the branch that ends with a message, as it was when it was shared.
create table conversation_links (
    token varchar primary key,
    conversation_id varchar not null,
    message_id varchar not null,
    created_at timestamp not null
);
