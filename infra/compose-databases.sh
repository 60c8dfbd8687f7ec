#!/bin/sh
# Makes a role and its databases for MLflow, Prefect and the ledger; PostgreSQL's image runs it at the first start.
set -eu
make() { # role, password, databases
    role=$1 password=$2
    shift 2
    psql --username postgres --set ON_ERROR_STOP=1 --set role="$role" --set password="$password" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
SQL
    for database in "$@"; do
        createdb --username postgres --owner "$role" "$database"
        psql --username postgres --command "REVOKE ALL ON DATABASE $database FROM PUBLIC"
    done
}
make mlflow "$MLFLOW_DATABASE_PASSWORD" mlflow mlflow_auth
make prefect "$PREFECT_DATABASE_PASSWORD" prefect
make ledger "$LEDGER_DATABASE_PASSWORD" ledger
