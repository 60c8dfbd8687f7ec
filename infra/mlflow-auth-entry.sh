#!/bin/sh
# Writes the file that MLflow's basic authentication reads its database from, where one is named; then runs the command.
set -eu
if [ -n "${MLFLOW_AUTH_DATABASE_URI:-}" ]; then
    umask 077
    printf '[mlflow]\ndefault_permission = READ\nauth_cache_ttl_seconds = 60\ndatabase_uri = %s\nauthorization_function = %s\n' \
        "$MLFLOW_AUTH_DATABASE_URI" mlflow.server.auth:authenticate_request_basic_auth >"$MLFLOW_AUTH_CONFIG_PATH"
fi
exec "$@"
