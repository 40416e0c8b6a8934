-- The logins and databases of Airflow, Superset and the warehouse, made once, when the server's data folder is new.
-- The image's entrypoint runs this file with psql as superuser; the passwords come from the files that `setup` made.
\set airflow_password `cat /run/delaywatch/airflow_password`
\set superset_password `cat /run/delaywatch/superset_password`
\set warehouse_password `cat /run/delaywatch/warehouse_password`

CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE superset LOGIN PASSWORD :'superset_password';
-- As the master user of RDS, it may make roles and is no superuser: the migrations make the schema's owner, loader and reader.
CREATE ROLE delaywatch LOGIN CREATEROLE PASSWORD :'warehouse_password';

CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE superset OWNER superset;
CREATE DATABASE warehouse OWNER delaywatch;

REVOKE CONNECT, TEMPORARY ON DATABASE airflow, superset FROM PUBLIC;
REVOKE TEMPORARY ON DATABASE warehouse FROM PUBLIC;
