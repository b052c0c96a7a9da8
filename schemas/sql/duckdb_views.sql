-- Rows as they stand in the files; `_island` numbers rows that overlap another of their series.
CREATE OR REPLACE VIEW block_rows AS
SELECT _series, "__name__", "job", _labels_rest['value'] AS "value", CASE WHEN _labels_rest IS NOT NULL THEN NULLIF(map_from_entries(list_filter(map_entries(_labels_rest), lambda e: e.key NOT IN ('value'))), MAP {}) END AS _labels_rest, _min_time, _max_time, _count, _stale, _nonfinite, _sum, _min, _max, _first, _last, _increase, _ts, _st, _scale, _scaled, _values, NULL::BIGINT AS _island
  FROM read_parquet([
    's3://bucket/a.parquet'
  ], union_by_name = true, hive_partitioning = false) f
UNION ALL
SELECT _series, "__name__", "job", "value", _labels_rest, _min_time, _max_time, _count, _stale, _nonfinite, _sum, _min, _max, _first, _last, _increase, _ts, _st, _scale, _scaled, _values, _island
  FROM read_parquet([
    's3://bucket/b.parquet',
    's3://bucket/c.parquet'
  ], union_by_name = true, hive_partitioning = false, filename = '_file', file_row_number = true) f
  LEFT JOIN (
    SELECT _file, file_row_number, _island FROM (
      SELECT *, count(*) OVER (PARTITION BY _series, _island) AS _size FROM (
        SELECT *, sum(_starts::INTEGER) OVER (PARTITION BY _series ORDER BY _min_time, _file, file_row_number ROWS UNBOUNDED PRECEDING)::BIGINT AS _island FROM (
          SELECT _file, file_row_number, _series, _min_time, COALESCE(_min_time > max(_max_time) OVER (PARTITION BY _series ORDER BY _min_time, _file, file_row_number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS _starts
          FROM read_parquet([
    's3://bucket/b.parquet',
    's3://bucket/c.parquet'
  ], union_by_name = true, hive_partitioning = false, filename = '_file', file_row_number = true))))
    WHERE _size > 1
  ) i USING (_file, file_row_number);

-- One row per sample. NULL is a stale marker.
CREATE OR REPLACE VIEW samples AS
SELECT _time AS ts, _value AS value, "__name__", "job", "value" AS "label_value", _labels_rest, _series
  FROM (SELECT *, COALESCE(_integer::DOUBLE / _power, _double) AS _value
  FROM (SELECT *, unnest(_ts) AS _time, unnest(_scaled) AS _integer, unnest(_values) AS _double
  FROM (SELECT *, [1e0::DOUBLE, 1e1::DOUBLE, 1e2::DOUBLE, 1e3::DOUBLE, 1e4::DOUBLE, 1e5::DOUBLE, 1e6::DOUBLE, 1e7::DOUBLE, 1e8::DOUBLE, 1e9::DOUBLE, 1e10::DOUBLE, 1e11::DOUBLE, 1e12::DOUBLE, 1e13::DOUBLE, 1e14::DOUBLE, 1e15::DOUBLE][_scale + 1] AS _power
  FROM block_rows WHERE _island IS NULL)))
UNION ALL
SELECT _time AS ts, _value AS value, "__name__", "job", "value" AS "label_value", _labels_rest, _series
  FROM (SELECT _time, CASE
    WHEN max(_value) FILTER (NOT isnan(_value)) = 0
      THEN CASE WHEN bool_or(_value = 0 AND NOT signbit(_value)) THEN 0::DOUBLE ELSE '-0'::DOUBLE END
    ELSE COALESCE(max(_value) FILTER (NOT isnan(_value)), (max(_value::BIT) FILTER (isnan(_value)))::DOUBLE) END AS _value, _series, "__name__", "job", "value", _labels_rest, _island
  FROM (SELECT *, COALESCE(_integer::DOUBLE / _power, _double) AS _value
  FROM (SELECT *, unnest(_ts) AS _time, unnest(_scaled) AS _integer, unnest(_values) AS _double
  FROM (SELECT *, [1e0::DOUBLE, 1e1::DOUBLE, 1e2::DOUBLE, 1e3::DOUBLE, 1e4::DOUBLE, 1e5::DOUBLE, 1e6::DOUBLE, 1e7::DOUBLE, 1e8::DOUBLE, 1e9::DOUBLE, 1e10::DOUBLE, 1e11::DOUBLE, 1e12::DOUBLE, 1e13::DOUBLE, 1e14::DOUBLE, 1e15::DOUBLE][_scale + 1] AS _power
  FROM block_rows WHERE _island IS NOT NULL)))
  GROUP BY _time, _series, "__name__", "job", "value", _labels_rest, _island);

-- Statistics of each series over spans of at most 8 h. `increase` includes the step from the span before.
CREATE OR REPLACE VIEW rollup AS
SELECT _series, "__name__", "job", "value", _labels_rest, _min_time, _max_time, _count AS "count", _stale AS "stale", _nonfinite AS "nonfinite", _sum AS "sum", _min AS "min", _max AS "max", _first AS "first", _last AS "last",
  _increase + CASE WHEN _before IS NULL THEN 0 WHEN _first >= _before THEN _first - _before ELSE _first END
    AS "increase"
FROM (SELECT *, lag(_last IGNORE NULLS) OVER (PARTITION BY _series, "__name__", "job", "value", _labels_rest ORDER BY _min_time) AS _before
  FROM (SELECT _series, "__name__", "job", "value", _labels_rest, _min_time, _max_time, _count, _stale, _nonfinite, _sum, _min, _max, _first, _last, _increase FROM block_rows WHERE _island IS NULL
  UNION ALL
  SELECT _series, "__name__", "job", "value", _labels_rest, min(_time) AS _min_time, max(_time) AS _max_time,
    count(*)::INTEGER AS _count, (count(*) - count(_value))::INTEGER AS _stale, (count(_value) - count(_v))::INTEGER AS _nonfinite,
    sum(_v ORDER BY _time) AS _sum, min(_v) AS _min, max(_v) AS _max, first(_v ORDER BY _time) FILTER (_v IS NOT NULL) AS _first, last(_v ORDER BY _time) FILTER (_v IS NOT NULL) AS _last,
    sum(CASE WHEN _before IS NULL THEN 0 WHEN _v >= _before THEN _v - _before ELSE _v END ORDER BY _time) FILTER (_v IS NOT NULL) AS _increase
  FROM (SELECT *, lag(_v IGNORE NULLS) OVER (PARTITION BY _series, "__name__", "job", "value", _labels_rest, _island, epoch_ms(_time) // 28800000 ORDER BY _time) AS _before
    FROM (SELECT *, CASE WHEN isfinite(_value) THEN _value END AS _v FROM (SELECT _time, CASE
    WHEN max(_value) FILTER (NOT isnan(_value)) = 0
      THEN CASE WHEN bool_or(_value = 0 AND NOT signbit(_value)) THEN 0::DOUBLE ELSE '-0'::DOUBLE END
    ELSE COALESCE(max(_value) FILTER (NOT isnan(_value)), (max(_value::BIT) FILTER (isnan(_value)))::DOUBLE) END AS _value, _series, "__name__", "job", "value", _labels_rest, _island
  FROM (SELECT *, COALESCE(_integer::DOUBLE / _power, _double) AS _value
  FROM (SELECT *, unnest(_ts) AS _time, unnest(_scaled) AS _integer, unnest(_values) AS _double
  FROM (SELECT *, [1e0::DOUBLE, 1e1::DOUBLE, 1e2::DOUBLE, 1e3::DOUBLE, 1e4::DOUBLE, 1e5::DOUBLE, 1e6::DOUBLE, 1e7::DOUBLE, 1e8::DOUBLE, 1e9::DOUBLE, 1e10::DOUBLE, 1e11::DOUBLE, 1e12::DOUBLE, 1e13::DOUBLE, 1e14::DOUBLE, 1e15::DOUBLE][_scale + 1] AS _power
  FROM block_rows WHERE _island IS NOT NULL)))
  GROUP BY _time, _series, "__name__", "job", "value", _labels_rest, _island)))
  GROUP BY _series, "__name__", "job", "value", _labels_rest, _island, epoch_ms(_time) // 28800000));
