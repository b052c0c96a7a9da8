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

-- One row per sample. A NULL value is a stale marker, a NULL start_ts one that was not sent.
CREATE OR REPLACE VIEW samples AS
SELECT _time AS ts, _value AS value, _start AS start_ts, "__name__", "job", "value" AS "label_value", _labels_rest, _series
  FROM (SELECT *, COALESCE(_integer::DOUBLE / _power, _double) AS _value
  FROM (SELECT *, unnest(_ts) AS _time, unnest(_scaled) AS _integer, unnest(_values) AS _double, unnest(_st) AS _start
  FROM (SELECT *, [1e0::DOUBLE, 1e1::DOUBLE, 1e2::DOUBLE, 1e3::DOUBLE, 1e4::DOUBLE, 1e5::DOUBLE, 1e6::DOUBLE, 1e7::DOUBLE, 1e8::DOUBLE, 1e9::DOUBLE, 1e10::DOUBLE, 1e11::DOUBLE, 1e12::DOUBLE, 1e13::DOUBLE, 1e14::DOUBLE, 1e15::DOUBLE][_scale + 1] AS _power
  FROM block_rows WHERE _island IS NULL)))
UNION ALL
SELECT _time AS ts, _value AS value, _start AS start_ts, "__name__", "job", "value" AS "label_value", _labels_rest, _series
  FROM (SELECT _time, CASE
    WHEN max(_value) FILTER (NOT isnan(_value)) = 0
      THEN CASE WHEN bool_or(_value = 0 AND NOT signbit(_value)) THEN 0::DOUBLE ELSE '-0'::DOUBLE END
    ELSE COALESCE(max(_value) FILTER (NOT isnan(_value)), (max(_value::BIT) FILTER (isnan(_value)))::DOUBLE) END AS _value, first(_start ORDER BY _value IS NULL, isnan(_value), _value DESC, signbit(_value), _value::BIT DESC, _start DESC NULLS LAST) AS _start, _series, "__name__", "job", "value", _labels_rest, _island
  FROM (SELECT *, COALESCE(_integer::DOUBLE / _power, _double) AS _value
  FROM (SELECT *, unnest(_ts) AS _time, unnest(_scaled) AS _integer, unnest(_values) AS _double, unnest(_st) AS _start
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
    ELSE COALESCE(max(_value) FILTER (NOT isnan(_value)), (max(_value::BIT) FILTER (isnan(_value)))::DOUBLE) END AS _value, first(_start ORDER BY _value IS NULL, isnan(_value), _value DESC, signbit(_value), _value::BIT DESC, _start DESC NULLS LAST) AS _start, _series, "__name__", "job", "value", _labels_rest, _island
  FROM (SELECT *, COALESCE(_integer::DOUBLE / _power, _double) AS _value
  FROM (SELECT *, unnest(_ts) AS _time, unnest(_scaled) AS _integer, unnest(_values) AS _double, unnest(_st) AS _start
  FROM (SELECT *, [1e0::DOUBLE, 1e1::DOUBLE, 1e2::DOUBLE, 1e3::DOUBLE, 1e4::DOUBLE, 1e5::DOUBLE, 1e6::DOUBLE, 1e7::DOUBLE, 1e8::DOUBLE, 1e9::DOUBLE, 1e10::DOUBLE, 1e11::DOUBLE, 1e12::DOUBLE, 1e13::DOUBLE, 1e14::DOUBLE, 1e15::DOUBLE][_scale + 1] AS _power
  FROM block_rows WHERE _island IS NOT NULL)))
  GROUP BY _time, _series, "__name__", "job", "value", _labels_rest, _island)))
  GROUP BY _series, "__name__", "job", "value", _labels_rest, _island, epoch_ms(_time) // 28800000));

-- Rows as they stand in the files; `_island` numbers rows that overlap another of their series.
CREATE OR REPLACE VIEW histogram_rows AS
SELECT _series, "__name__", "job", _labels_rest['value'] AS "value", CASE WHEN _labels_rest IS NOT NULL THEN NULLIF(map_from_entries(list_filter(map_entries(_labels_rest), lambda e: e.key NOT IN ('value'))), MAP {}) END AS _labels_rest, _min_time, _max_time, _count, _stale, _schema, _zero_threshold, _custom_values, _positive_offsets, _positive_lengths, _negative_offsets, _negative_lengths, _ts, _st, _reset_hint, _hcount, _hcount_float, _zero_count, _zero_count_float, _sum, _positive_first, _positive_increments, _positive_float, _negative_first, _negative_increments, _negative_float, NULL::BIGINT AS _island
  FROM read_parquet([
    's3://bucket/f.parquet'
  ], union_by_name = true, hive_partitioning = false) f
UNION ALL
SELECT _series, "__name__", "job", _labels_rest['value'] AS "value", CASE WHEN _labels_rest IS NOT NULL THEN NULLIF(map_from_entries(list_filter(map_entries(_labels_rest), lambda e: e.key NOT IN ('value'))), MAP {}) END AS _labels_rest, _min_time, _max_time, _count, _stale, _schema, _zero_threshold, _custom_values, _positive_offsets, _positive_lengths, _negative_offsets, _negative_lengths, _ts, _st, _reset_hint, _hcount, _hcount_float, _zero_count, _zero_count_float, _sum, _positive_first, _positive_increments, _positive_float, _negative_first, _negative_increments, _negative_float, _island
  FROM read_parquet([
    's3://bucket/d.parquet',
    's3://bucket/e.parquet'
  ], union_by_name = true, hive_partitioning = false, filename = '_file', file_row_number = true) f
  LEFT JOIN (
    SELECT _file, file_row_number, _island FROM (
      SELECT *, count(*) OVER (PARTITION BY _series, _island) AS _size FROM (
        SELECT *, sum(_starts::INTEGER) OVER (PARTITION BY _series ORDER BY _min_time, _file, file_row_number ROWS UNBOUNDED PRECEDING)::BIGINT AS _island FROM (
          SELECT _file, file_row_number, _series, _min_time, COALESCE(_min_time > max(_max_time) OVER (PARTITION BY _series ORDER BY _min_time, _file, file_row_number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS _starts
          FROM read_parquet([
    's3://bucket/d.parquet',
    's3://bucket/e.parquet'
  ], union_by_name = true, hive_partitioning = false, filename = '_file', file_row_number = true))))
    WHERE _size > 1
  ) i USING (_file, file_row_number);

-- One row per histogram. A NULL sum is a stale marker.
CREATE OR REPLACE VIEW histograms AS
SELECT _time AS ts, _n AS "count", _total AS "sum", _schema AS "schema", _zero_threshold AS zero_threshold, _zero AS zero_count, _buckets AS buckets, _start AS start_ts, "__name__", "job", "value", _labels_rest, _series
  FROM (SELECT *,
    CASE WHEN _n IS NULL THEN NULL ELSE list_concat(list_concat(list_transform(list_filter(range(len(_negative_at), 0, -1), lambda b: COALESCE(_negative_increments[b][_i]::DOUBLE, _negative_float[b][_i]) IS NOT NULL), lambda b: {'lower': -pow(2::DOUBLE, (_negative_at[b]) * pow(2::DOUBLE, -_schema)), 'upper': -pow(2::DOUBLE, (_negative_at[b] - 1) * pow(2::DOUBLE, -_schema)), 'count': COALESCE(_negative_float[b][_i], (_negative_first[b] + list_sum(_negative_increments[b][1:_i]))::DOUBLE)}),
    CASE WHEN _zero <> 0 THEN [{'lower': -_zero_threshold, 'upper': _zero_threshold, 'count': _zero}] ELSE [] END),
    list_transform(list_filter(range(1, len(_positive_at) + 1), lambda b: COALESCE(_positive_increments[b][_i]::DOUBLE, _positive_float[b][_i]) IS NOT NULL), lambda b: {'lower': CASE WHEN _schema = -53 THEN COALESCE(_custom_values[NULLIF(_positive_at[b], 0)], '-inf'::DOUBLE) ELSE pow(2::DOUBLE, (_positive_at[b] - 1) * pow(2::DOUBLE, -_schema)) END, 'upper': CASE WHEN _schema = -53 THEN COALESCE(_custom_values[_positive_at[b] + 1], 'inf'::DOUBLE) ELSE pow(2::DOUBLE, (_positive_at[b]) * pow(2::DOUBLE, -_schema)) END, 'count': COALESCE(_positive_float[b][_i], (_positive_first[b] + list_sum(_positive_increments[b][1:_i]))::DOUBLE)})) END AS _buckets
  FROM (SELECT *, COALESCE(_hcount[_i]::DOUBLE, _hcount_float[_i]) AS _n, COALESCE(_zero_count[_i]::DOUBLE, _zero_count_float[_i]) AS _zero, _sum[_i] AS _total, _st[_i] AS _start
  FROM (SELECT *, unnest(_ts) AS _time, unnest(range(1, len(_ts) + 1)) AS _i,
    flatten(list_transform(range(1, len(_positive_offsets) + 1), lambda k: range((list_sum(_positive_offsets[1:k]) + COALESCE(list_sum(_positive_lengths[1:k - 1]), 0))::BIGINT, (list_sum(_positive_offsets[1:k]) + COALESCE(list_sum(_positive_lengths[1:k - 1]), 0))::BIGINT + _positive_lengths[k]))) AS _positive_at,
    flatten(list_transform(range(1, len(_negative_offsets) + 1), lambda k: range((list_sum(_negative_offsets[1:k]) + COALESCE(list_sum(_negative_lengths[1:k - 1]), 0))::BIGINT, (list_sum(_negative_offsets[1:k]) + COALESCE(list_sum(_negative_lengths[1:k - 1]), 0))::BIGINT + _negative_lengths[k]))) AS _negative_at
  FROM histogram_rows WHERE _island IS NULL)))
UNION ALL
SELECT _time AS ts, _n AS "count", _total AS "sum", _schema AS "schema", _zero_threshold AS zero_threshold, _zero AS zero_count, _buckets AS buckets, _start AS start_ts, "__name__", "job", "value", _labels_rest, _series
  FROM (SELECT *,
    CASE WHEN _n IS NULL THEN NULL ELSE list_concat(list_concat(list_transform(list_filter(range(len(_negative_at), 0, -1), lambda b: COALESCE(_negative_increments[b][_i]::DOUBLE, _negative_float[b][_i]) IS NOT NULL), lambda b: {'lower': -pow(2::DOUBLE, (_negative_at[b]) * pow(2::DOUBLE, -_schema)), 'upper': -pow(2::DOUBLE, (_negative_at[b] - 1) * pow(2::DOUBLE, -_schema)), 'count': COALESCE(_negative_float[b][_i], (_negative_first[b] + list_sum(_negative_increments[b][1:_i]))::DOUBLE)}),
    CASE WHEN _zero <> 0 THEN [{'lower': -_zero_threshold, 'upper': _zero_threshold, 'count': _zero}] ELSE [] END),
    list_transform(list_filter(range(1, len(_positive_at) + 1), lambda b: COALESCE(_positive_increments[b][_i]::DOUBLE, _positive_float[b][_i]) IS NOT NULL), lambda b: {'lower': CASE WHEN _schema = -53 THEN COALESCE(_custom_values[NULLIF(_positive_at[b], 0)], '-inf'::DOUBLE) ELSE pow(2::DOUBLE, (_positive_at[b] - 1) * pow(2::DOUBLE, -_schema)) END, 'upper': CASE WHEN _schema = -53 THEN COALESCE(_custom_values[_positive_at[b] + 1], 'inf'::DOUBLE) ELSE pow(2::DOUBLE, (_positive_at[b]) * pow(2::DOUBLE, -_schema)) END, 'count': COALESCE(_positive_float[b][_i], (_positive_first[b] + list_sum(_positive_increments[b][1:_i]))::DOUBLE)})) END AS _buckets
  FROM (SELECT *, COALESCE(_hcount[_i]::DOUBLE, _hcount_float[_i]) AS _n, COALESCE(_zero_count[_i]::DOUBLE, _zero_count_float[_i]) AS _zero, _sum[_i] AS _total, _st[_i] AS _start
  FROM (SELECT *, unnest(_ts) AS _time, unnest(range(1, len(_ts) + 1)) AS _i,
    flatten(list_transform(range(1, len(_positive_offsets) + 1), lambda k: range((list_sum(_positive_offsets[1:k]) + COALESCE(list_sum(_positive_lengths[1:k - 1]), 0))::BIGINT, (list_sum(_positive_offsets[1:k]) + COALESCE(list_sum(_positive_lengths[1:k - 1]), 0))::BIGINT + _positive_lengths[k]))) AS _positive_at,
    flatten(list_transform(range(1, len(_negative_offsets) + 1), lambda k: range((list_sum(_negative_offsets[1:k]) + COALESCE(list_sum(_negative_lengths[1:k - 1]), 0))::BIGINT, (list_sum(_negative_offsets[1:k]) + COALESCE(list_sum(_negative_lengths[1:k - 1]), 0))::BIGINT + _negative_lengths[k]))) AS _negative_at
  FROM histogram_rows WHERE _island IS NOT NULL)))
  QUALIFY row_number() OVER (PARTITION BY _time, _series, "__name__", "job", "value", _labels_rest ORDER BY _total IS NULL, _hcount IS NULL, _n DESC, _zero DESC, _total::BIT DESC, _start DESC NULLS LAST) = 1;

-- One row per bucket of each histogram, from the lowest bound up.
CREATE OR REPLACE VIEW histogram_buckets AS
SELECT ts, _bucket.lower AS lower, _bucket.upper AS upper, _bucket.count AS "count", "__name__", "job", "value", _labels_rest, _series
  FROM (SELECT *, unnest(buckets) AS _bucket FROM histograms);

-- One row per exemplar.
CREATE OR REPLACE VIEW exemplars AS
SELECT _ts AS ts, _value AS "value", _trace_id AS trace_id, _span_id AS span_id, _exemplar_labels AS exemplar_labels, "__name__", "job", "value" AS "label_value", _labels_rest, _series
  FROM (SELECT _series, "__name__", _labels_rest['job'] AS "job", _labels_rest['value'] AS "value", CASE WHEN _labels_rest IS NOT NULL THEN NULLIF(map_from_entries(list_filter(map_entries(_labels_rest), lambda e: e.key NOT IN ('job', 'value'))), MAP {}) END AS _labels_rest, _ts, _value, _trace_id, _span_id, _exemplar_labels FROM read_parquet([
    's3://bucket/g.parquet'
  ], union_by_name = true, hive_partitioning = false) f);

-- What was said about each metric family, and since when.
CREATE OR REPLACE VIEW metadata AS
SELECT _family AS family, _type AS "type", _help AS help, _unit AS unit, _since AS since
  FROM (SELECT *, [_type, _help, _unit] AS _said, lag([_type, _help, _unit]) OVER (PARTITION BY _family ORDER BY _since, [_type, _help, _unit]) AS _before
  FROM (SELECT * FROM read_parquet([
    's3://bucket/h.parquet'
  ], union_by_name = true, hive_partitioning = false)))
  WHERE _said IS DISTINCT FROM _before;
