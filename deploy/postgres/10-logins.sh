#!/bin/sh
# The database's logins, made once by the superuser at the first start of an empty volume (docs/operations.md, "Roles of the database"):
#   palimpsest_owner     migrates; the tables are its own
#   palimpsest_service   everything else; it owns nothing and enters palimpsest_app (one tenant) or palimpsest_sweeper (jobs, no memory)
# For another PostgreSQL run it by hand, with psql's own variables (PGHOST, PGUSER, …) in place of POSTGRES_USER and POSTGRES_DB.
set -eu
psql --set ON_ERROR_STOP=1 --no-psqlrc --quiet \
  --username "${POSTGRES_USER:-${PGUSER:-postgres}}" --dbname "${POSTGRES_DB:-${PGDATABASE:-palimpsest}}" \
  --set owner_password="$DATABASE_OWNER_PASSWORD" --set service_password="$DATABASE_SERVICE_PASSWORD" <<'SQL'
BEGIN;
CREATE ROLE palimpsest_app NOLOGIN;
CREATE ROLE palimpsest_sweeper NOLOGIN;
CREATE ROLE palimpsest_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE palimpsest_service LOGIN PASSWORD :'service_password';
-- Entered, never inherited: an inherited role's policies would apply without anyone asking.
GRANT palimpsest_app, palimpsest_sweeper TO palimpsest_owner, palimpsest_service WITH INHERIT FALSE, SET TRUE;
SELECT format('ALTER DATABASE %I OWNER TO palimpsest_owner', current_database()) \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO palimpsest_service', current_database()) \gexec
-- The one table that the service reads under its own name, to see at its start whether the schema is its version's. Made here as the migrations
-- would make it, because only a table that is there can be granted.
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
ALTER TABLE alembic_version OWNER TO palimpsest_owner;
GRANT SELECT ON alembic_version TO palimpsest_service;
COMMIT;
SQL
