"""Read Airflow's connections `warehouse`, `aws_default`, `smtp_default`, `alert_webhook` and channels as settings.

A connection overrides the environment, so that the UI, AIRFLOW_CONN_* and Secrets Manager all work. Without the
connection, the environment is used. Contains no DAG.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from airflow import sdk
from airflow.sdk.exceptions import AirflowNotFoundException

from utils.settings import AlertSettings, Settings, checked_webhook
from utils.settings import channel_url as environment_channel_url

RDS = (".rds.amazonaws.com", ".rds.amazonaws.com.cn")
AWS_EXTRAS = {"aws_region": "region_name", "aws_endpoint_url": "endpoint_url", "aws_session_token": "aws_session_token"}


def settings(needs_warehouse: bool = True) -> Settings:
    """Return the settings of lake and warehouse. Raises InvalidInput if a required one is not set.

    A warehouse on RDS gets `sslmode=require`, unless the connection's extra has another `sslmode`: the secret that RDS
    writes has no field for it, and libpq's default falls back to no TLS.
    """
    given = dict[str, Any]() if needs_warehouse else dict[str, Any](warehouse=None)
    if needs_warehouse and (warehouse := _connection("warehouse")):
        place, extra = warehouse.get_uri().partition("://")[2].partition("?")[0], warehouse.extra_dejson
        if (warehouse.host or "").lower().endswith(RDS):
            extra = {"sslmode": "require"} | extra
        given["warehouse"] = f"postgresql://{place}" + (f"?{urlencode(extra)}" if extra else "")
    if aws := _connection("aws_default"):
        given |= {"aws_access_key_id": aws.login, "aws_secret_access_key": aws.password}
        given |= {setting: aws.extra_dejson.get(extra) for setting, extra in AWS_EXTRAS.items()}
    return Settings.from_environment(**given)


def alerts() -> AlertSettings:
    """Return the settings of notifications. Recipients come from the environment: a connection has no field for them.

    `smtp_default` has the format of Airflow's SMTP provider: implicit TLS unless its extra `disable_ssl` is true; extra
    `from_email` is the sender. `alert_webhook`: the URL is its host, or its host, `/` and its password.
    """
    given = dict[str, Any]()
    if mail := _connection("smtp_default"):
        extra, login = mail.extra_dejson, ""
        if mail.login:
            login = f"{quote(mail.login, safe='')}:{quote(mail.password or '', safe='')}@"
        scheme = "smtp" if str(extra.get("disable_ssl", False)).lower() == "true" else "smtps"
        port = f":{mail.port}" if mail.port else ""
        given |= {"smtp": f"{scheme}://{login}{mail.host}{port}", "sender": extra.get("from_email")}
    if hook := _connection("alert_webhook"):
        given["webhook"] = _address(hook)
    return AlertSettings.from_environment(**given)


def channel_url(name: str) -> str:
    """Return the URL of a channel of subscriptions.yaml: of the connection `name`, like `alert_webhook`, if it exists.

    Raises InvalidInput or Missing, without the URL, if there is no valid one.
    """
    hook = _connection(name)
    return checked_webhook(_address(hook), f"The connection {name}") if hook else environment_channel_url(name)


def _address(hook: Any) -> str:
    return "/".join(part.strip("/") for part in (hook.host, hook.password) if part)


def _connection(name: str) -> Any:
    try:
        return sdk.Connection.get(name)
    except AirflowNotFoundException:
        return None
