# shellcheck shell=bash
# Last steps of up.sh: data for the first day, and the addresses.

# Only for the stack's own lake, and only while it has no year.
load_demo_year() {
    [ "$(docker compose run --rm --no-deps -T setup python -m stack lake)" = local ] || return 0
    docker compose exec -T airflow-scheduler python /opt/delaywatch/stack/airflow/demo_year.py ||
        fail "the demo year could not be uploaded to the lake; see the line above."
}

show_addresses() {
    local url
    url=$(docker compose exec -T airflow-apiserver printenv AIRFLOW__API__BASE_URL)
    url=${url%/airflow}
    cat <<END
Delaywatch is up.
  Pages       $url/flights/  (years, airports, days)
  Dashboards  $url/          (Superset)
  Runs        $url/airflow/  (Airflow; trigger flight_anomalies with a year of the lake: make status)
  User        admin; \`make password\` shows the password.
END
}
