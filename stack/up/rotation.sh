# shellcheck shell=bash
# Steps of up.sh while a rotation (make rotate) is unfinished; otherwise they do nothing.

# The names of the secrets that have a new and an old value (stack/rotation.py).
rotating() {
    # If Postgres is not running, no program is.
    docker compose exec -T postgres cat /run/delaywatch/rotating 2>/dev/null || true
}

# A running program has the old values and would become unhealthy before its restart.
begin_rotation() {
    local names stay='postgres|nginx' services
    names=$(rotating)
    [ -n "$names" ] || return 0
    grep -q '^s3_' <<<"$names" || stay="$stay|s3"
    services=$(docker compose --profile '*' ps --services --status running | grep -vxE "$stay" || true)
    # shellcheck disable=SC2086
    [ -z "$services" ] || docker compose --profile '*' stop $services
    ! grep -qx jupyter <<<"$services" || has_notebooks=yes
    docker compose run --rm --no-deps -T setup || fail "the rotation of secrets cannot continue; see the line above."
    docker compose exec -T postgres /opt/delaywatch/health.sh >&2 || fail "Postgres did not accept the new passwords; see the line above."
}

# Everything runs with the new values; re-encrypt what was encrypted with an old value before deleting that value.
finish_rotation() {
    local names output
    names=$(rotating)
    [ -n "$names" ] || return 0
    [ -z "${has_notebooks:-}" ] || docker compose --profile notebooks up --detach --wait --no-deps --no-recreate jupyter
    if grep -qx fernet_key <<<"$names"; then
        output=$(docker compose run --rm --no-deps -T airflow-init airflow rotate-fernet-key 2>&1) ||
            unfinished "Airflow did not re-encrypt its connections and variables (${output##*$'\n'})"
    fi
    if grep -qx superset_secret_key <<<"$names"; then
        docker compose run --rm --no-deps -T superset-init python /app/delaywatch/provision.py --reencrypt ||
            unfinished "Superset did not re-encrypt its passwords"
    fi
    if grep -qx admin_password <<<"$names"; then
        docker compose run --rm --no-deps -T airflow-init python /opt/delaywatch/stack/airflow/admin.py --reset-password ||
            unfinished "Airflow did not accept the new password of admin"
        docker compose run --rm --no-deps -T superset-init python /app/delaywatch/provision.py --reset-password ||
            unfinished "Superset did not accept the new password of admin"
    fi
    docker compose run --rm --no-deps -T setup python -m stack rotate --finish || unfinished "the old secrets were not deleted"
}

unfinished() {
    echo "Delaywatch runs with the new secrets, but $1. The old secrets are kept; fix the cause and run \`make up\`, which continues." >&2
    exit 1
}
