-- Likes are trained on too (KTO): numbered as pairs and demonstrations are, so that a snapshot knows what it has seen.
create sequence like_seq;
alter table likes add column seq bigint default nextval('like_seq');

-- Name of the recipe that a run began with, below its own params.
alter table runs add column recipe varchar;
