CREATE DATABASE IF NOT EXISTS delaywatch;

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.flights (
  `fl_date` date,
  `op_carrier` string,
  `op_carrier_fl_num` int,
  `origin` string,
  `dest` string,
  `crs_dep_time` smallint,
  `dep_time` smallint,
  `dep_delay` smallint,
  `taxi_out` smallint,
  `wheels_off` smallint,
  `wheels_on` smallint,
  `taxi_in` smallint,
  `crs_arr_time` smallint,
  `arr_time` smallint,
  `arr_delay` smallint,
  `cancelled` boolean,
  `cancellation_code` string,
  `diverted` boolean,
  `crs_elapsed_time` smallint,
  `actual_elapsed_time` smallint,
  `air_time` smallint,
  `distance` smallint,
  `carrier_delay` smallint,
  `weather_delay` smallint,
  `nas_delay` smallint,
  `security_delay` smallint,
  `late_aircraft_delay` smallint
)
PARTITIONED BY (`year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/02_silver/flights/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.rejected (
  `line` bigint,
  `reason` string,
  `column` string,
  `value` string,
  `raw` string
)
PARTITIONED BY (`year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/02_silver/rejected/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.airport_days (
  `origin` string,
  `fl_date` date,
  `scheduled` int,
  `departed` int,
  `cancelled` int,
  `diverted` int,
  `mean_dep_delay_min` float,
  `std_dep_delay_min` float,
  `delayed_15` int,
  `delayed_60` int,
  `disrupted` int,
  `mean_effective_delay_min` float,
  `std_effective_delay_min` float,
  `max_dep_delay_min` smallint,
  `carrier_min` int,
  `weather_min` int,
  `nas_min` int,
  `security_min` int,
  `late_aircraft_min` int,
  `cancelled_carrier` int,
  `cancelled_weather` int,
  `cancelled_nas` int,
  `cancelled_security` int
)
PARTITIONED BY (`year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/03_gold/airport_days/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.anomalies (
  `origin` string,
  `fl_date` date,
  `metric` string,
  `observed` float,
  `expected` float,
  `lower` float,
  `upper` float,
  `score` float,
  `is_anomaly` boolean,
  `direction` string,
  `severity` smallint,
  `status` string,
  `params_hash` string
)
PARTITIONED BY (`detector` string, `year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/03_gold/anomalies/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.detector.type' = 'enum',
  'projection.detector.values' = 'arima,delaywatch,gradient_boosting,isolation_forest,random_cut_forest,three_sigma',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.anomaly_reasons (
  `origin` string,
  `fl_date` date,
  `direction` string,
  `severity` smallint,
  `scheduled` int,
  `effective_delay_min` float,
  `expected_effective_delay_min` float,
  `disrupted_share` float,
  `expected_disrupted_share` float,
  `delay_min` float,
  `usual_delay_min` float,
  `excess_delay_min` float,
  `cancelled` int,
  `usual_cancelled` float,
  `excess_cancelled` float,
  `top_cause` string,
  `top_carrier` string,
  `top_destination` string,
  `sentence` string
)
PARTITIONED BY (`year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/03_gold/anomaly_reasons/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.anomaly_factors (
  `origin` string,
  `fl_date` date,
  `dimension` string,
  `name` string,
  `scheduled` int,
  `delay_min` float,
  `usual_delay_min` float,
  `excess_delay_min` float,
  `cancelled` int,
  `usual_cancelled` float,
  `excess_cancelled` float
)
PARTITIONED BY (`year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/03_gold/anomaly_factors/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.events (
  `event_id` string,
  `name` string,
  `first_day` date,
  `last_day` date,
  `kind` string,
  `airports` int,
  `airport_days` int,
  `severity` smallint,
  `scheduled` int,
  `cancelled` int,
  `mean_effective_delay_min` float,
  `worst_origin` string,
  `latitude` float,
  `longitude` float
)
PARTITIONED BY (`year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/03_gold/events/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);

CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch.event_days (
  `event_id` string,
  `origin` string,
  `fl_date` date
)
PARTITIONED BY (`year` int)
STORED AS PARQUET
LOCATION 's3://BUCKET/lake/03_gold/event_days/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.year.type' = 'integer',
  'projection.year.range' = '1987,2100'
);
