#!/usr/bin/env bash
# Starts Perennial, node_exporter and a Prometheus that scrapes it every second, writes here and reads back; prints
# what arrived, what it takes on disk and how to query it. Ends with Ctrl-C, or after DEMO_SECONDS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target="${CARGO_TARGET_DIR:-target}"
perennial="${PERENNIAL:-$target/release/perennial}"
folder="${DEMO_DIR:-data/demo}"
collect_seconds="${DEMO_COLLECT_SECONDS:-30}"
http=127.0.0.1:10902 write=127.0.0.1:19291 node=127.0.0.1:19100 prometheus=127.0.0.1:19090

for program in prometheus prometheus-node-exporter curl; do
  if ! command -v "$program" >/dev/null; then
    echo "the demo needs $program: run tests/install.sh, or apt-get install $program" >&2
    exit 1
  fi
done

mkdir -p "$folder"
children=()
stop() {
  for child in "${children[@]}"; do
    kill "$child" 2>/dev/null || true
  done
  wait 2>/dev/null || true
}
trap stop EXIT
trap 'exit 0' INT TERM

start() { # name, command…
  local name="$1"
  shift
  "$@" >"$folder/$name.log" 2>&1 &
  children+=($!)
}

wait_for() { # name, url
  for _ in $(seq 1 200); do
    curl --silent --fail --noproxy '*' --output /dev/null "$2" && return
    sleep 0.1
  done
  echo "$1 is not ready; the end of its log:" >&2
  tail -n 20 "$folder/$1.log" >&2
  exit 1
}

cat >"$folder/prometheus.yml" <<YAML
global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {cluster: demo}}
scrape_configs:
  - {job_name: node, static_configs: [{targets: ['$node']}]}
  - {job_name: prometheus, static_configs: [{targets: ['$prometheus']}]}
remote_write:
  - {url: 'http://$write/api/v1/receive', queue_config: {batch_send_deadline: 1s}}
remote_read:
  - {url: 'http://$http/api/v1/read', read_recent: true}
YAML

start perennial "$perennial" standalone --data-dir "$folder/perennial"
wait_for perennial "http://$http/-/ready"
start node_exporter prometheus-node-exporter --web.listen-address="$node"
start prometheus prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/prometheus" \
  --web.listen-address="$prometheus" --log.level=warn
wait_for prometheus "http://$prometheus/-/ready"

echo "collecting for $collect_seconds s …"
sleep "$collect_seconds"
curl --silent --show-error --fail --noproxy '*' -X POST "http://$http/-/flush"

echo
echo "what arrived (perennial blocks ls):"
"$perennial" blocks ls --data-dir "$folder/perennial"
echo
echo "on disk: $(du -sh "$folder/perennial/bucket" | cut -f1) in the bucket, $(du -sh "$folder/perennial" | cut -f1) with the log"
echo
echo "up, asked of Prometheus, which asks Perennial as well:"
curl --silent --noproxy '*' "http://$prometheus/api/v1/query" --data-urlencode 'query=up' && echo
"$perennial" sql-view --engine duckdb --tenant default-tenant --data-dir "$folder/perennial" >"$folder/views.sql"
python="${XDG_CACHE_HOME:-$HOME/.cache}/perennial/venv/bin/python"
if [ -x "$python" ]; then
  echo
  echo "samples per job, by DuckDB over the Parquet files:"
  "$python" - "$folder/views.sql" <<'PYTHON'
import sys, duckdb
con = duckdb.connect()
con.execute(open(sys.argv[1]).read())
print(con.sql("SELECT job, count(*) AS samples, count(DISTINCT __name__) AS metrics FROM samples GROUP BY job ORDER BY job"))
PYTHON
fi
cat <<TEXT

query it:
  Prometheus     http://$prometheus/graph
  Thanos Query   thanos query --endpoint=127.0.0.1:10901
  HTTP           curl http://$http/api/v1/labels
  DuckDB         duckdb -init $folder/views.sql     then: SELECT * FROM samples LIMIT 10;

Ctrl-C ends everything; the data stays in $folder
TEXT
if [ -n "${DEMO_SECONDS:-}" ]; then
  sleep "$DEMO_SECONDS"
else
  wait
fi
