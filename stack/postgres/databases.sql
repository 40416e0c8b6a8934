-- Create the logins and databases of Airflow, Superset and the warehouse, once, when the server's data folder is new.
-- The image's entrypoint runs this file with psql as superuser; the passwords are in files of `setup`.
\set airflow_password `cat /run/delaywatch/airflow_password`
\set superset_password `cat /run/delaywatch/superset_password`
\set warehouse_password `cat /run/delaywatch/warehouse_password`

CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE superset LOGIN PASSWORD :'superset_password';
-- Like the master user of RDS, it may create roles but is not a superuser: migrations create the schema's owner, loader and reader.
CREATE ROLE delaywatch LOGIN CREATEROLE PASSWORD :'warehouse_password';

CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE superset OWNER superset;
CREATE DATABASE warehouse OWNER delaywatch;

REVOKE CONNECT, TEMPORARY ON DATABASE airflow, superset FROM PUBLIC;
REVOKE TEMPORARY ON DATABASE warehouse FROM PUBLIC;
