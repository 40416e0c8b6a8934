#!/usr/bin/env bash
# Health check: each program can log in to its database over TCP with its password. The check sets a password that is
# being rotated, so that an interrupted rotation continues.
set -euo pipefail
handed=${DELAYWATCH_HANDED:-/run/delaywatch}

is_rotating() { # is_rotating SECRET
    [ -e "$handed/rotating" ] && grep -qx "$1" "$handed/rotating"
}

log_in() { # log_in USER DATABASE SECRET
    PGPASSWORD=$(cat "$handed/$3") PGCONNECT_TIMEOUT=3 \
        psql --quiet --no-psqlrc --host="$(hostname -i)" --username="$1" --dbname="$2" --command='SELECT 1' 2>&1
}

set_password() { # set_password USER SECRET: as superuser through the socket, which needs no password; it is not logged
    SECRET=$handed/$2 psql --quiet --no-psqlrc --username=postgres --set=ON_ERROR_STOP=1 --set=user="$1" 2>&1 <<'END'
\set password `cat "$SECRET"`
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
ALTER ROLE :"user" PASSWORD :'password';
END
}

logins=(airflow:airflow superset:superset warehouse:delaywatch)
! is_rotating postgres_password || logins+=(postgres:postgres)
for login in "${logins[@]}"; do
    database=${login%:*} user=${login#*:}
    secret=${database}_password
    output=$(log_in "$user" "$database" "$secret") && continue
    if is_rotating "$secret"; then
        output=$(set_password "$user" "$secret") && output=$(log_in "$user" "$database" "$secret") && continue
    fi
    case $output in
    *"password authentication failed"* | *"does not exist"*)
        output="Postgres refuses the password of $user or has no database $database: data and secrets are from different installations, \
or the first start was interrupted. Restore both from one backup (make restore), or delete the data (make destroy CONFIRM=yes)."
        ;;
    esac
    echo "${output##*$'\n'}" >&2
    exit 1
done
