-- A warehouse of commit 4a311ec (revision 0002): pg_dump of its tables, a few rows of 2013 and the published view.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA flights;
ALTER SCHEMA flights OWNER TO flights_owner;
COMMENT ON SCHEMA flights IS 'Abnormal days of US airports: tables of Delaywatch';
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE flights.airport_days (
    origin text NOT NULL,
    fl_date date NOT NULL,
    scheduled integer NOT NULL,
    departed integer NOT NULL,
    cancelled integer NOT NULL,
    diverted integer NOT NULL,
    mean_dep_delay_min real,
    std_dep_delay_min real,
    delayed_15 integer NOT NULL,
    delayed_60 integer NOT NULL,
    disrupted integer NOT NULL,
    mean_effective_delay_min real,
    std_effective_delay_min real,
    max_dep_delay_min smallint,
    carrier_min integer NOT NULL,
    weather_min integer NOT NULL,
    nas_min integer NOT NULL,
    security_min integer NOT NULL,
    late_aircraft_min integer NOT NULL,
    cancelled_carrier integer NOT NULL,
    cancelled_weather integer NOT NULL,
    cancelled_nas integer NOT NULL,
    cancelled_security integer NOT NULL,
    CONSTRAINT airport_days_counts_not_negative CHECK ((LEAST(scheduled, departed, cancelled, diverted, delayed_15, delayed_60, disrupted, cancelled_carrier, cancelled_weather, cancelled_nas, cancelled_security) >= 0)),
    CONSTRAINT airport_days_delayed_60_among_15 CHECK ((delayed_60 <= delayed_15)),
    CONSTRAINT airport_days_not_above_scheduled CHECK ((GREATEST(departed, cancelled) <= scheduled))
)
WITH (fillfactor='50');
ALTER TABLE flights.airport_days OWNER TO flights_owner;
COMMENT ON TABLE flights.airport_days IS 'One row per airport and calendar day between its first and its last scheduled day of the year';
COMMENT ON COLUMN flights.airport_days.origin IS 'airport of departure, IATA code';
COMMENT ON COLUMN flights.airport_days.fl_date IS 'calendar day of the scheduled departure, local time';
COMMENT ON COLUMN flights.airport_days.scheduled IS 'flights scheduled to depart';
COMMENT ON COLUMN flights.airport_days.departed IS 'flights that departed: scheduled and not cancelled';
COMMENT ON COLUMN flights.airport_days.cancelled IS 'flights cancelled';
COMMENT ON COLUMN flights.airport_days.diverted IS 'flights that landed elsewhere';
COMMENT ON COLUMN flights.airport_days.mean_dep_delay_min IS 'mean departure delay of departed flights, minutes; early is negative';
COMMENT ON COLUMN flights.airport_days.std_dep_delay_min IS 'standard deviation of the departure delay, minutes';
COMMENT ON COLUMN flights.airport_days.delayed_15 IS 'flights that departed 15 minutes late or more';
COMMENT ON COLUMN flights.airport_days.delayed_60 IS 'flights that departed 60 minutes late or more';
COMMENT ON COLUMN flights.airport_days.disrupted IS 'flights that departed more than 60 minutes late, or were cancelled';
COMMENT ON COLUMN flights.airport_days.mean_effective_delay_min IS 'mean over scheduled flights, minutes: delay capped at 120, a cancelled flight counts as 120';
COMMENT ON COLUMN flights.airport_days.std_effective_delay_min IS 'standard deviation of the effective delay, minutes';
COMMENT ON COLUMN flights.airport_days.max_dep_delay_min IS 'longest departure delay, minutes';
COMMENT ON COLUMN flights.airport_days.carrier_min IS 'minutes of arrival delay caused by the carrier';
COMMENT ON COLUMN flights.airport_days.weather_min IS 'minutes of arrival delay caused by weather';
COMMENT ON COLUMN flights.airport_days.nas_min IS 'minutes of arrival delay caused by the national airspace system';
COMMENT ON COLUMN flights.airport_days.security_min IS 'minutes of arrival delay caused by security';
COMMENT ON COLUMN flights.airport_days.late_aircraft_min IS 'minutes of arrival delay caused by a late incoming aircraft';
COMMENT ON COLUMN flights.airport_days.cancelled_carrier IS 'flights cancelled by the carrier (code A)';
COMMENT ON COLUMN flights.airport_days.cancelled_weather IS 'flights cancelled for weather (code B)';
COMMENT ON COLUMN flights.airport_days.cancelled_nas IS 'flights cancelled by the national airspace system (code C)';
COMMENT ON COLUMN flights.airport_days.cancelled_security IS 'flights cancelled for security (code D)';
CREATE TABLE flights.anomalies (
    origin text NOT NULL,
    fl_date date NOT NULL,
    detector text NOT NULL,
    metric text NOT NULL,
    observed real,
    expected real,
    lower real,
    upper real,
    score real,
    is_anomaly boolean NOT NULL,
    direction text,
    severity smallint NOT NULL,
    status text NOT NULL,
    params_hash text NOT NULL,
    CONSTRAINT anomalies_direction_known CHECK ((direction = ANY (ARRAY['late'::text, 'early'::text, 'closure'::text]))),
    CONSTRAINT anomalies_flag_says_how CHECK (((is_anomaly = (direction IS NOT NULL)) AND (is_anomaly = (severity > 0)))),
    CONSTRAINT anomalies_severity_known CHECK (((severity >= 0) AND (severity <= 3))),
    CONSTRAINT anomalies_status_known CHECK ((status = ANY (ARRAY['ok'::text, 'insufficient_data'::text, 'no_flights'::text])))
)
WITH (fillfactor='50');
ALTER TABLE flights.anomalies OWNER TO flights_owner;
COMMENT ON TABLE flights.anomalies IS 'One row per airport, day and detector: what the detector expected and what it says of the day';
COMMENT ON COLUMN flights.anomalies.origin IS 'airport of departure, IATA code';
COMMENT ON COLUMN flights.anomalies.fl_date IS 'calendar day of the scheduled departure, local time';
COMMENT ON COLUMN flights.anomalies.detector IS 'name of the detector that judged';
COMMENT ON COLUMN flights.anomalies.metric IS 'column of airport_days that was judged';
COMMENT ON COLUMN flights.anomalies.observed IS 'the metric on this day, in its own unit';
COMMENT ON COLUMN flights.anomalies.expected IS 'what the detector expected, in the metric''s unit';
COMMENT ON COLUMN flights.anomalies.lower IS 'lower end of the range that counts as normal, in the metric''s unit';
COMMENT ON COLUMN flights.anomalies.upper IS 'upper end of the range that counts as normal, in the metric''s unit';
COMMENT ON COLUMN flights.anomalies.score IS 'how abnormal the day is; higher is more abnormal, comparable across airports';
COMMENT ON COLUMN flights.anomalies.is_anomaly IS 'the detector''s verdict';
COMMENT ON COLUMN flights.anomalies.direction IS 'late, early or closure on an abnormal day, null otherwise';
COMMENT ON COLUMN flights.anomalies.severity IS '0 none, 1 mild, 2 strong, 3 extreme';
COMMENT ON COLUMN flights.anomalies.status IS 'ok, insufficient_data or no_flights';
COMMENT ON COLUMN flights.anomalies.params_hash IS 'the detector''s settings, as in runs';
CREATE TABLE flights.anomaly_reasons (
    origin text NOT NULL,
    fl_date date NOT NULL,
    direction text NOT NULL,
    severity smallint NOT NULL,
    scheduled integer NOT NULL,
    effective_delay_min real,
    expected_effective_delay_min real,
    disrupted_share real,
    expected_disrupted_share real,
    delay_min real NOT NULL,
    usual_delay_min real,
    excess_delay_min real,
    cancelled integer NOT NULL,
    usual_cancelled real,
    excess_cancelled real,
    top_cause text,
    top_carrier text,
    top_destination text,
    sentence text NOT NULL,
    CONSTRAINT anomaly_reasons_cause_known CHECK ((top_cause = ANY (ARRAY['carrier'::text, 'weather'::text, 'nas'::text, 'security'::text, 'late_aircraft'::text]))),
    CONSTRAINT anomaly_reasons_delay_not_negative CHECK ((delay_min >= (0)::double precision)),
    CONSTRAINT anomaly_reasons_direction_known CHECK ((direction = ANY (ARRAY['late'::text, 'early'::text, 'closure'::text]))),
    CONSTRAINT anomaly_reasons_not_above_scheduled CHECK (((cancelled >= 0) AND (cancelled <= scheduled))),
    CONSTRAINT anomaly_reasons_say_something CHECK ((sentence <> ''::text)),
    CONSTRAINT anomaly_reasons_severity_known CHECK (((severity >= 1) AND (severity <= 3))),
    CONSTRAINT anomaly_reasons_shares_are_shares CHECK ((((disrupted_share >= (0)::double precision) AND (disrupted_share <= (1)::double precision)) AND ((expected_disrupted_share >= (0)::double precision) AND (expected_disrupted_share <= (1)::double precision))))
);
ALTER TABLE flights.anomaly_reasons OWNER TO flights_owner;
COMMENT ON TABLE flights.anomaly_reasons IS 'One row per day that the published detector flags: why it is abnormal';
COMMENT ON COLUMN flights.anomaly_reasons.origin IS 'airport of departure, IATA code';
COMMENT ON COLUMN flights.anomaly_reasons.fl_date IS 'calendar day of the scheduled departure, local time';
COMMENT ON COLUMN flights.anomaly_reasons.direction IS 'late, early or closure';
COMMENT ON COLUMN flights.anomaly_reasons.severity IS '1 mild, 2 strong, 3 extreme';
COMMENT ON COLUMN flights.anomaly_reasons.scheduled IS 'flights scheduled to depart';
COMMENT ON COLUMN flights.anomaly_reasons.effective_delay_min IS 'mean over scheduled flights, minutes; see airport_days';
COMMENT ON COLUMN flights.anomaly_reasons.expected_effective_delay_min IS 'the effective delay that the detector expected, minutes';
COMMENT ON COLUMN flights.anomaly_reasons.disrupted_share IS 'disrupted flights over scheduled ones, 0 to 1; see airport_days';
COMMENT ON COLUMN flights.anomaly_reasons.expected_disrupted_share IS 'the disrupted share that the detector expected, 0 to 1';
COMMENT ON COLUMN flights.anomaly_reasons.delay_min IS 'sum of the departure delays of late flights, minutes';
COMMENT ON COLUMN flights.anomaly_reasons.usual_delay_min IS 'that sum for as many flights on days that are not flagged, minutes';
COMMENT ON COLUMN flights.anomaly_reasons.excess_delay_min IS 'delay_min beyond the usual, minutes';
COMMENT ON COLUMN flights.anomaly_reasons.cancelled IS 'flights cancelled';
COMMENT ON COLUMN flights.anomaly_reasons.usual_cancelled IS 'cancellations among as many flights on days that are not flagged';
COMMENT ON COLUMN flights.anomaly_reasons.excess_cancelled IS 'cancellations beyond the usual';
COMMENT ON COLUMN flights.anomaly_reasons.top_cause IS 'cause with the largest excess; null where none exceeds the usual';
COMMENT ON COLUMN flights.anomaly_reasons.top_carrier IS 'carrier with the largest excess; null where none exceeds the usual';
COMMENT ON COLUMN flights.anomaly_reasons.top_destination IS 'destination with the largest excess; null where none exceeds the usual';
COMMENT ON COLUMN flights.anomaly_reasons.sentence IS 'why the day is abnormal, in plain words';
CREATE TABLE flights.event_days (
    event_id text NOT NULL,
    origin text NOT NULL,
    fl_date date NOT NULL
);
ALTER TABLE flights.event_days OWNER TO flights_owner;
COMMENT ON TABLE flights.event_days IS 'One row per flagged day that belongs to an event, and it belongs to one';
COMMENT ON COLUMN flights.event_days.event_id IS 'the event, a key of events';
COMMENT ON COLUMN flights.event_days.origin IS 'airport of departure, IATA code';
COMMENT ON COLUMN flights.event_days.fl_date IS 'calendar day of the scheduled departure, local time';
CREATE TABLE flights.events (
    event_id text NOT NULL,
    name text NOT NULL,
    first_day date NOT NULL,
    last_day date NOT NULL,
    kind text NOT NULL,
    airports integer NOT NULL,
    airport_days integer NOT NULL,
    severity smallint NOT NULL,
    scheduled integer NOT NULL,
    cancelled integer NOT NULL,
    mean_effective_delay_min real,
    worst_origin text NOT NULL,
    latitude real,
    longitude real,
    CONSTRAINT events_are_on_the_globe CHECK ((((latitude >= ('-90'::integer)::double precision) AND (latitude <= (90)::double precision)) AND ((longitude >= ('-180'::integer)::double precision) AND (longitude <= (180)::double precision)))),
    CONSTRAINT events_end_after_start CHECK ((first_day <= last_day)),
    CONSTRAINT events_have_a_centre_or_none CHECK (((latitude IS NULL) = (longitude IS NULL))),
    CONSTRAINT events_have_airports CHECK (((airports >= 1) AND (airports <= airport_days))),
    CONSTRAINT events_have_names CHECK ((name <> ''::text)),
    CONSTRAINT events_kind_known CHECK ((kind = ANY (ARRAY['delay'::text, 'closure'::text, 'mixed'::text]))),
    CONSTRAINT events_not_above_scheduled CHECK (((cancelled >= 0) AND (cancelled <= scheduled))),
    CONSTRAINT events_severity_known CHECK (((severity >= 1) AND (severity <= 3)))
);
ALTER TABLE flights.events OWNER TO flights_owner;
COMMENT ON TABLE flights.events IS 'One row per event: flagged days of near airports on the same or adjacent days';
COMMENT ON COLUMN flights.events.event_id IS 'first day and worst airport of that day, e.g. 20130208-LGA';
COMMENT ON COLUMN flights.events.name IS 'the event in one line';
COMMENT ON COLUMN flights.events.first_day IS 'first flagged day';
COMMENT ON COLUMN flights.events.last_day IS 'last flagged day';
COMMENT ON COLUMN flights.events.kind IS 'delay, closure or mixed';
COMMENT ON COLUMN flights.events.airports IS 'airports with a flagged day in it';
COMMENT ON COLUMN flights.events.airport_days IS 'flagged days of airports in it';
COMMENT ON COLUMN flights.events.severity IS 'the highest of its days: 1 mild, 2 strong, 3 extreme';
COMMENT ON COLUMN flights.events.scheduled IS 'flights scheduled to depart on its airport-days';
COMMENT ON COLUMN flights.events.cancelled IS 'flights cancelled on its airport-days';
COMMENT ON COLUMN flights.events.mean_effective_delay_min IS 'mean over its scheduled flights, minutes; see airport_days';
COMMENT ON COLUMN flights.events.worst_origin IS 'airport of its worst day, IATA code';
COMMENT ON COLUMN flights.events.latitude IS 'centre, weighted by flights, degrees; null when no airport is known';
COMMENT ON COLUMN flights.events.longitude IS 'centre, weighted by flights, degrees; null when no airport is known';
CREATE TABLE flights.feedback (
    origin text NOT NULL,
    fl_date date NOT NULL,
    opinion text NOT NULL,
    note text NOT NULL,
    author text NOT NULL,
    given_at timestamp with time zone NOT NULL,
    CONSTRAINT feedback_has_an_author CHECK ((author <> ''::text)),
    CONSTRAINT feedback_opinion_known CHECK ((opinion = ANY (ARRAY['expected'::text, 'wrong'::text, 'right'::text])))
);
ALTER TABLE flights.feedback OWNER TO flights_owner;
COMMENT ON TABLE flights.feedback IS 'What people say of airport-days, one row each; runs read it and never write it';
COMMENT ON COLUMN flights.feedback.origin IS 'airport of departure, IATA code';
COMMENT ON COLUMN flights.feedback.fl_date IS 'calendar day of the scheduled departure, local time';
COMMENT ON COLUMN flights.feedback.opinion IS 'expected (known beforehand, nothing is learnt from the day), wrong (a false alarm) or right (a true one)';
COMMENT ON COLUMN flights.feedback.note IS 'what the person adds; may be empty';
COMMENT ON COLUMN flights.feedback.author IS 'who said it';
COMMENT ON COLUMN flights.feedback.given_at IS 'when it was said';
CREATE VIEW flights.agg_dep_delay_by_date AS
 SELECT (d.origin || to_char((d.fl_date)::timestamp without time zone, 'YYYYMMDD'::text)) AS id,
    d.origin,
    d.fl_date,
    d.scheduled,
    d.departed,
    d.cancelled,
    d.diverted,
    d.mean_dep_delay_min,
    d.std_dep_delay_min,
    d.delayed_15,
    d.delayed_60,
    d.disrupted,
    d.mean_effective_delay_min,
    d.std_effective_delay_min,
    d.max_dep_delay_min,
    d.carrier_min,
    d.weather_min,
    d.nas_min,
    d.security_min,
    d.late_aircraft_min,
    d.cancelled_carrier,
    d.cancelled_weather,
    d.cancelled_nas,
    d.cancelled_security,
    delaywatch.metric,
    delaywatch.observed,
    delaywatch.expected,
    delaywatch.lower,
    delaywatch.upper,
    delaywatch.score,
    delaywatch.is_anomaly,
    delaywatch.direction,
    delaywatch.severity,
    delaywatch.status,
        CASE
            WHEN delaywatch.is_anomaly THEN delaywatch.direction
            WHEN (delaywatch.status = 'ok'::text) THEN 'normal'::text
            ELSE delaywatch.status
        END AS verdict,
    _reasons.sentence,
    _event_days.event_id,
    _events.name AS event,
    _feedback.opinion,
    (NOT (_feedback.opinion IS DISTINCT FROM 'expected'::text)) AS is_acknowledged,
    three_sigma.is_anomaly AS is_anomaly_three_sigma,
    delaywatch.is_anomaly AS is_anomaly_delaywatch
   FROM ((((((flights.airport_days d
     LEFT JOIN flights.anomalies three_sigma ON (((three_sigma.origin = d.origin) AND (three_sigma.fl_date = d.fl_date) AND (three_sigma.detector = 'three_sigma'::text))))
     LEFT JOIN flights.anomalies delaywatch ON (((delaywatch.origin = d.origin) AND (delaywatch.fl_date = d.fl_date) AND (delaywatch.detector = 'delaywatch'::text))))
     LEFT JOIN flights.anomaly_reasons _reasons ON (((_reasons.origin = d.origin) AND (_reasons.fl_date = d.fl_date))))
     LEFT JOIN flights.event_days _event_days ON (((_event_days.origin = d.origin) AND (_event_days.fl_date = d.fl_date))))
     LEFT JOIN flights.events _events ON ((_events.event_id = _event_days.event_id)))
     LEFT JOIN flights.feedback _feedback ON (((_feedback.origin = d.origin) AND (_feedback.fl_date = d.fl_date))));
ALTER VIEW flights.agg_dep_delay_by_date OWNER TO flights_owner;
COMMENT ON VIEW flights.agg_dep_delay_by_date IS 'One row per airport and day, with the verdict of delaywatch, its reason, event and feedback, and one flag per detector (three_sigma, delaywatch). Definition d4f61b1f775f f06d26166ced';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.id IS 'airport and day in one text, e.g. JFK20090101';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.origin IS 'airport of departure, IATA code';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.fl_date IS 'calendar day of the scheduled departure, local time';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.scheduled IS 'flights scheduled to depart';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.departed IS 'flights that departed: scheduled and not cancelled';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.cancelled IS 'flights cancelled';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.diverted IS 'flights that landed elsewhere';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.mean_dep_delay_min IS 'mean departure delay of departed flights, minutes; early is negative';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.std_dep_delay_min IS 'standard deviation of the departure delay, minutes';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.delayed_15 IS 'flights that departed 15 minutes late or more';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.delayed_60 IS 'flights that departed 60 minutes late or more';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.disrupted IS 'flights that departed more than 60 minutes late, or were cancelled';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.mean_effective_delay_min IS 'mean over scheduled flights, minutes: delay capped at 120, a cancelled flight counts as 120';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.std_effective_delay_min IS 'standard deviation of the effective delay, minutes';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.max_dep_delay_min IS 'longest departure delay, minutes';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.carrier_min IS 'minutes of arrival delay caused by the carrier';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.weather_min IS 'minutes of arrival delay caused by weather';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.nas_min IS 'minutes of arrival delay caused by the national airspace system';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.security_min IS 'minutes of arrival delay caused by security';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.late_aircraft_min IS 'minutes of arrival delay caused by a late incoming aircraft';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.cancelled_carrier IS 'flights cancelled by the carrier (code A)';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.cancelled_weather IS 'flights cancelled for weather (code B)';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.cancelled_nas IS 'flights cancelled by the national airspace system (code C)';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.cancelled_security IS 'flights cancelled for security (code D)';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.metric IS 'column of airport_days that the published detector judged';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.observed IS 'the metric on this day, in its own unit';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.expected IS 'the metric that the published detector expected';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.lower IS 'lower end of the range that counts as normal, in the metric''s unit';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.upper IS 'upper end of the range that counts as normal, in the metric''s unit';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.score IS 'how abnormal the day is; higher is more abnormal, comparable across airports';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.is_anomaly IS 'the published verdict; null when the detector has not judged the day';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.direction IS 'late, early or closure on an abnormal day, null otherwise';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.severity IS '0 none, 1 mild, 2 strong, 3 extreme';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.status IS 'ok, insufficient_data or no_flights';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.verdict IS 'normal, late, early or closure; insufficient_data or no_flights where nothing can be said, by delaywatch';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.sentence IS 'why the day is abnormal, in words; null on other days';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.event_id IS 'the event that the day belongs to, a key of events; null when to none';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.event IS 'name of this event';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.opinion IS 'what a person said of the day: expected, wrong or right; null when nobody did';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.is_acknowledged IS 'a person called the day expected; it is scored, but not used for fitting its airport';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.is_anomaly_three_sigma IS 'verdict of three_sigma; null when it has not judged the day';
COMMENT ON COLUMN flights.agg_dep_delay_by_date.is_anomaly_delaywatch IS 'verdict of delaywatch; null when it has not judged the day';
CREATE TABLE flights.alembic_version (
    version_num character varying(32) NOT NULL
);
ALTER TABLE flights.alembic_version OWNER TO flights_owner;
CREATE TABLE flights.anomaly_factors (
    origin text NOT NULL,
    fl_date date NOT NULL,
    dimension text NOT NULL,
    name text NOT NULL,
    scheduled integer,
    delay_min real,
    usual_delay_min real,
    excess_delay_min real,
    cancelled integer,
    usual_cancelled real,
    excess_cancelled real,
    CONSTRAINT anomaly_factors_cause_known CHECK (((dimension <> 'cause'::text) OR (name = ANY (ARRAY['carrier'::text, 'weather'::text, 'nas'::text, 'security'::text, 'late_aircraft'::text])))),
    CONSTRAINT anomaly_factors_causes_schedule_nothing CHECK (((dimension = 'cause'::text) = (scheduled IS NULL))),
    CONSTRAINT anomaly_factors_dimension_known CHECK ((dimension = ANY (ARRAY['cause'::text, 'carrier'::text, 'destination'::text]))),
    CONSTRAINT anomaly_factors_not_above_scheduled CHECK ((cancelled <= scheduled)),
    CONSTRAINT anomaly_factors_not_negative CHECK ((LEAST(delay_min, (cancelled)::real, (scheduled)::real) >= (0)::double precision)),
    CONSTRAINT anomaly_factors_only_causes_go_unreported CHECK (((dimension = 'cause'::text) OR ((delay_min IS NOT NULL) AND (cancelled IS NOT NULL))))
);
ALTER TABLE flights.anomaly_factors OWNER TO flights_owner;
COMMENT ON TABLE flights.anomaly_factors IS 'The parts of a flagged day by cause, carrier and destination, against the airport''s usual mix';
COMMENT ON COLUMN flights.anomaly_factors.origin IS 'airport of departure, IATA code';
COMMENT ON COLUMN flights.anomaly_factors.fl_date IS 'calendar day of the scheduled departure, local time';
COMMENT ON COLUMN flights.anomaly_factors.dimension IS 'cause, carrier or destination';
COMMENT ON COLUMN flights.anomaly_factors.name IS 'the cause, or the code of the carrier or of the airport of destination';
COMMENT ON COLUMN flights.anomaly_factors.scheduled IS 'flights scheduled to depart; null for a cause';
COMMENT ON COLUMN flights.anomaly_factors.delay_min IS 'its part of the day''s delay, minutes; null for a cause that is not reported';
COMMENT ON COLUMN flights.anomaly_factors.usual_delay_min IS 'that part on days that are not flagged, for as many flights, minutes';
COMMENT ON COLUMN flights.anomaly_factors.excess_delay_min IS 'delay_min beyond the usual, minutes';
COMMENT ON COLUMN flights.anomaly_factors.cancelled IS 'its part of the cancelled flights; null for a cause that is not reported';
COMMENT ON COLUMN flights.anomaly_factors.usual_cancelled IS 'that part on days that are not flagged, for as many flights';
COMMENT ON COLUMN flights.anomaly_factors.excess_cancelled IS 'cancellations beyond the usual';
CREATE TABLE flights.bronze_quality (
    year smallint NOT NULL,
    bronze_key text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    rows_read bigint NOT NULL,
    rows_kept bigint NOT NULL,
    rows_duplicate bigint NOT NULL,
    rows_rejected bigint NOT NULL,
    missing_days smallint NOT NULL,
    missing_months text NOT NULL,
    doubled_months text NOT NULL,
    report jsonb NOT NULL,
    CONSTRAINT bronze_quality_not_negative CHECK ((LEAST(bytes, rows_kept, rows_duplicate, rows_rejected, (missing_days)::bigint) >= 0)),
    CONSTRAINT bronze_quality_rows_add_up CHECK ((((rows_kept + rows_duplicate) + rows_rejected) = rows_read))
);
ALTER TABLE flights.bronze_quality OWNER TO flights_owner;
COMMENT ON TABLE flights.bronze_quality IS 'One row per year: what came in as bronze and what silver kept of it';
COMMENT ON COLUMN flights.bronze_quality.year IS 'calendar year of the file';
COMMENT ON COLUMN flights.bronze_quality.bronze_key IS 'key of the file in the lake';
COMMENT ON COLUMN flights.bronze_quality.bytes IS 'size of the file, bytes';
COMMENT ON COLUMN flights.bronze_quality.sha256 IS 'SHA-256 of the file, hexadecimal';
COMMENT ON COLUMN flights.bronze_quality.rows_read IS 'rows in the file';
COMMENT ON COLUMN flights.bronze_quality.rows_kept IS 'rows that became silver';
COMMENT ON COLUMN flights.bronze_quality.rows_duplicate IS 'rows that were there before, by natural key';
COMMENT ON COLUMN flights.bronze_quality.rows_rejected IS 'rows that could not be used';
COMMENT ON COLUMN flights.bronze_quality.missing_days IS 'calendar days without a flight';
COMMENT ON COLUMN flights.bronze_quality.missing_months IS 'months without a flight, as 10 or 10,11; empty when none';
COMMENT ON COLUMN flights.bronze_quality.doubled_months IS 'months whose rows were in the file twice; empty when none';
COMMENT ON COLUMN flights.bronze_quality.report IS 'the whole quality report';
CREATE VIEW flights.detector_feedback AS
 SELECT year,
    detector,
    right_flags,
    wrong_flags,
    expected_flags,
    right_missed,
    (((right_flags)::real / (NULLIF((right_flags + wrong_flags), 0))::double precision))::real AS precision_by_feedback
   FROM ( SELECT (EXTRACT(year FROM f.fl_date))::smallint AS year,
            a.detector,
            count(*) FILTER (WHERE (a.is_anomaly AND (f.opinion = 'right'::text))) AS right_flags,
            count(*) FILTER (WHERE (a.is_anomaly AND (f.opinion = 'wrong'::text))) AS wrong_flags,
            count(*) FILTER (WHERE (a.is_anomaly AND (f.opinion = 'expected'::text))) AS expected_flags,
            count(*) FILTER (WHERE ((NOT a.is_anomaly) AND (a.status = 'ok'::text) AND (f.opinion = 'right'::text))) AS right_missed
           FROM (flights.feedback f
             JOIN flights.anomalies a ON (((a.origin = f.origin) AND (a.fl_date = f.fl_date))))
          GROUP BY ((EXTRACT(year FROM f.fl_date))::smallint), a.detector) counted;
ALTER VIEW flights.detector_feedback OWNER TO flights_owner;
COMMENT ON VIEW flights.detector_feedback IS 'One row per year and detector that judged a day on which somebody gave feedback: how often it was right by that';
COMMENT ON COLUMN flights.detector_feedback.year IS 'calendar year of the days';
COMMENT ON COLUMN flights.detector_feedback.detector IS 'name of the detector that judged';
COMMENT ON COLUMN flights.detector_feedback.right_flags IS 'days that the detector flags and a person called right';
COMMENT ON COLUMN flights.detector_feedback.wrong_flags IS 'days that the detector flags and a person called wrong';
COMMENT ON COLUMN flights.detector_feedback.expected_flags IS 'days that the detector flags and a person called expected; they count for and against nothing';
COMMENT ON COLUMN flights.detector_feedback.right_missed IS 'days that a person called right and the detector calls normal';
COMMENT ON COLUMN flights.detector_feedback.precision_by_feedback IS 'right_flags / (right_flags + wrong_flags), 0 to 1; null when both are 0; over several years divide the sums';
CREATE TABLE flights.runs (
    run_id text NOT NULL,
    year smallint NOT NULL,
    code_version text,
    params_hash text,
    started timestamp with time zone,
    ended timestamp with time zone,
    rows jsonb,
    CONSTRAINT runs_end_after_start CHECK ((ended >= started))
);
ALTER TABLE flights.runs OWNER TO flights_owner;
COMMENT ON TABLE flights.runs IS 'One row per run of a year';
COMMENT ON COLUMN flights.runs.run_id IS 'identifier of the run';
COMMENT ON COLUMN flights.runs.year IS 'calendar year that the run worked on';
COMMENT ON COLUMN flights.runs.code_version IS 'release that ran';
COMMENT ON COLUMN flights.runs.params_hash IS 'the detectors'' settings';
COMMENT ON COLUMN flights.runs.started IS 'start of the run';
COMMENT ON COLUMN flights.runs.ended IS 'end of the run; one that failed or was killed has no row';
COMMENT ON COLUMN flights.runs.rows IS 'rows in and out per step';
INSERT INTO flights.airport_days VALUES
	('JFK', '2013-02-08', 9, 0, 9, 0, NULL, NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0),
	('LGA', '2013-02-08', 4, 4, 0, 0, NULL, NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO flights.alembic_version VALUES
	('0002');
INSERT INTO flights.anomalies VALUES
	('JFK', '2013-02-08', 'delaywatch', 'mean_dep_delay_min', NULL, NULL, NULL, NULL, 4.5, true, 'late', 2, 'ok', 'abc'),
	('JFK', '2013-02-08', 'three_sigma', 'mean_dep_delay_min', NULL, NULL, NULL, NULL, NULL, false, NULL, 0, 'ok', 'abc');
INSERT INTO flights.anomaly_factors VALUES
	('JFK', '2013-02-08', 'cause', 'weather', NULL, 0, NULL, NULL, 0, NULL, NULL);
INSERT INTO flights.anomaly_reasons VALUES
	('JFK', '2013-02-08', 'late', 2, 0, NULL, NULL, NULL, NULL, 0, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, 'It was late.');
INSERT INTO flights.event_days VALUES
	('20130208-JFK', 'JFK', '2013-02-08');
INSERT INTO flights.events VALUES
	('20130208-JFK', '20130208-JFK', '2013-02-08', '2013-02-08', 'delay', 1, 1, 2, 0, 0, NULL, 'JFK', NULL, NULL);
INSERT INTO flights.feedback VALUES
	('JFK', '2013-02-08', 'expected', 'snow, announced', 'ann', '2026-11-30 06:46:46.698703+00');
INSERT INTO flights.runs VALUES
	('manual__1', 2013, NULL, NULL, '2026-11-30 00:00:00+00', '2026-11-30 00:05:00+00', NULL);
ALTER TABLE ONLY flights.airport_days
    ADD CONSTRAINT airport_days_pkey PRIMARY KEY (origin, fl_date);
ALTER TABLE ONLY flights.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY flights.anomalies
    ADD CONSTRAINT anomalies_pkey PRIMARY KEY (origin, fl_date, detector);
ALTER TABLE ONLY flights.anomaly_factors
    ADD CONSTRAINT anomaly_factors_pkey PRIMARY KEY (origin, fl_date, dimension, name);
ALTER TABLE ONLY flights.anomaly_reasons
    ADD CONSTRAINT anomaly_reasons_pkey PRIMARY KEY (origin, fl_date);
ALTER TABLE ONLY flights.bronze_quality
    ADD CONSTRAINT bronze_quality_pkey PRIMARY KEY (year);
ALTER TABLE ONLY flights.event_days
    ADD CONSTRAINT event_days_pkey PRIMARY KEY (origin, fl_date);
ALTER TABLE ONLY flights.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY flights.feedback
    ADD CONSTRAINT feedback_pkey PRIMARY KEY (origin, fl_date);
ALTER TABLE ONLY flights.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (run_id);
CREATE INDEX airport_days_fl_date ON flights.airport_days USING brin (fl_date) WITH (autosummarize='on');
CREATE INDEX anomalies_fl_date_detector ON flights.anomalies USING brin (fl_date, detector) WITH (autosummarize='on');
CREATE INDEX anomalies_flagged ON flights.anomalies USING btree (detector, fl_date) WHERE is_anomaly;
CREATE INDEX anomaly_factors_fl_date ON flights.anomaly_factors USING brin (fl_date) WITH (autosummarize='on');
CREATE INDEX anomaly_reasons_fl_date ON flights.anomaly_reasons USING btree (fl_date);
CREATE INDEX event_days_event_id ON flights.event_days USING btree (event_id);
CREATE INDEX event_days_fl_date ON flights.event_days USING btree (fl_date);
CREATE INDEX events_first_day ON flights.events USING btree (first_day);
GRANT USAGE ON SCHEMA flights TO flights_loader;
GRANT USAGE ON SCHEMA flights TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.airport_days TO flights_loader;
GRANT SELECT ON TABLE flights.airport_days TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.anomalies TO flights_loader;
GRANT SELECT ON TABLE flights.anomalies TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.anomaly_reasons TO flights_loader;
GRANT SELECT ON TABLE flights.anomaly_reasons TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.event_days TO flights_loader;
GRANT SELECT ON TABLE flights.event_days TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.events TO flights_loader;
GRANT SELECT ON TABLE flights.events TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.feedback TO flights_loader;
GRANT SELECT ON TABLE flights.feedback TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.agg_dep_delay_by_date TO flights_loader;
GRANT SELECT ON TABLE flights.agg_dep_delay_by_date TO flights_reader;
GRANT SELECT ON TABLE flights.alembic_version TO flights_loader;
GRANT SELECT ON TABLE flights.alembic_version TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.anomaly_factors TO flights_loader;
GRANT SELECT ON TABLE flights.anomaly_factors TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.bronze_quality TO flights_loader;
GRANT SELECT ON TABLE flights.bronze_quality TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.detector_feedback TO flights_loader;
GRANT SELECT ON TABLE flights.detector_feedback TO flights_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE flights.runs TO flights_loader;
GRANT SELECT ON TABLE flights.runs TO flights_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE flights_owner IN SCHEMA flights GRANT SELECT,INSERT,DELETE,UPDATE ON TABLES TO flights_loader;
ALTER DEFAULT PRIVILEGES FOR ROLE flights_owner IN SCHEMA flights GRANT SELECT ON TABLES TO flights_reader;
