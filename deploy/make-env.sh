#!/bin/sh
# Prints the secrets of docker-compose.yml, new at every call: sh deploy/make-env.sh > .env
# Keep the file with the backups. Without PALIMPSEST_KEY_PEPPER a restored database knows no API key.
set -eu
secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
cat <<EOT
PALIMPSEST_BOOTSTRAP_KEY=$(secret 32)
PALIMPSEST_KEY_PEPPER=$(secret 32)
POSTGRES_PASSWORD=$(secret 24)
DATABASE_OWNER_PASSWORD=$(secret 24)
DATABASE_SERVICE_PASSWORD=$(secret 24)
REDIS_PASSWORD=$(secret 24)
OBJECTS_ACCESS_KEY=$(secret 10)
OBJECTS_SECRET_KEY=$(secret 24)
EOT
