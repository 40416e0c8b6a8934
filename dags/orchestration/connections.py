"""Airflow's connections `warehouse`, `aws_default`, `smtp_default` and `alert_webhook` as settings. Holds no DAG.

They come before the environment, so that the UI, AIRFLOW_CONN_* and Secrets Manager all work. Where there is none of a
name, the environment decides.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from airflow import sdk
from airflow.sdk.exceptions import AirflowNotFoundException

from utils.settings import AlertSettings, Settings

RDS = (".rds.amazonaws.com", ".rds.amazonaws.com.cn")
AWS_EXTRAS = {"aws_region": "region_name", "aws_endpoint_url": "endpoint_url", "aws_session_token": "aws_session_token"}


def settings(needs_warehouse: bool = True) -> Settings:
    """Lake and warehouse. Raises InvalidInput when one that is needed is nowhere.

    A warehouse of RDS is spoken to with TLS or not at all, unless the connection's extra has another `sslmode`: the
    secret that RDS writes has no place for one, and libpq alone would go on without TLS where the server has none.
    """
    given = dict[str, Any]() if needs_warehouse else dict[str, Any](warehouse=None)
    if needs_warehouse and (warehouse := _found("warehouse")):
        place, extra = warehouse.get_uri().partition("://")[2].partition("?")[0], warehouse.extra_dejson
        if (warehouse.host or "").lower().endswith(RDS):
            extra = {"sslmode": "require"} | extra
        given["warehouse"] = f"postgresql://{place}" + (f"?{urlencode(extra)}" if extra else "")
    if aws := _found("aws_default"):
        given |= {"aws_access_key_id": aws.login, "aws_secret_access_key": aws.password}
        given |= {setting: aws.extra_dejson.get(extra) for setting, extra in AWS_EXTRAS.items()}
    return Settings.from_environment(**given)


def alerts() -> AlertSettings:
    """Who is notified of runs. The recipients are the environment's: a connection has no place for them.

    `smtp_default` is as Airflow's SMTP provider takes it: encrypted from the first byte unless its extra `disable_ssl`
    is true; extra `from_email` is the sender. `alert_webhook`: the address is its host, or host and then password.
    """
    given = dict[str, Any]()
    if mail := _found("smtp_default"):
        extra, login = mail.extra_dejson, ""
        if mail.login:
            login = f"{quote(mail.login, safe='')}:{quote(mail.password or '', safe='')}@"
        scheme = "smtp" if str(extra.get("disable_ssl", False)).lower() == "true" else "smtps"
        port = f":{mail.port}" if mail.port else ""
        given |= {"smtp": f"{scheme}://{login}{mail.host}{port}", "sender": extra.get("from_email")}
    if hook := _found("alert_webhook"):
        given["webhook"] = "/".join(part.strip("/") for part in (hook.host, hook.password) if part)
    return AlertSettings.from_environment(**given)


def _found(name: str) -> Any:
    try:
        return sdk.Connection.get(name)
    except AirflowNotFoundException:
        return None
