#!/usr/bin/env bash
# The whole incident on one machine: a real Prometheus under load is archived, somebody deletes series by mistake, the
# delete is found, a restore is planned and run, and a query shows that the data is back. Ends by itself; what it printed
# and wrote stays in DEMO_DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target="${CARGO_TARGET_DIR:-target}"
perennial="${PERENNIAL:-$target/release/perennial}"
folder="${DEMO_DIR:-data/demo-restore}"
collect_seconds="${DEMO_COLLECT_SECONDS:-30}"
port="${DEMO_PORT:-19290}" # and the two that follow
prometheus=127.0.0.1:$port node=127.0.0.1:$((port + 1)) archiver=127.0.0.1:$((port + 2))
bucket="{type: FILESYSTEM, config: {directory: $folder/bucket}}"

for program in prometheus prometheus-node-exporter promtool curl; do
  if ! command -v "$program" >/dev/null; then
    echo "the demo needs $program: run tests/install.sh, or apt-get install $program" >&2
    exit 1
  fi
done

rm -rf "$folder"
mkdir -p "$folder/bucket"
declare -A pids
stop_all() {
  for name in "${!pids[@]}"; do
    kill "${pids[$name]}" 2>/dev/null || true
  done
  wait 2>/dev/null || true
}
trap stop_all EXIT
trap 'exit 1' INT TERM

start() { # name, command…
  local name="$1"
  shift
  "$@" >>"$folder/$name.log" 2>&1 &
  pids[$name]=$!
}

stop() { # name
  kill "${pids[$1]}"
  wait "${pids[$1]}" || true
  unset "pids[$1]"
}

wait_for() { # name, url
  for _ in $(seq 1 300); do
    kill -0 "${pids[$1]}" 2>/dev/null || break
    curl --silent --fail --noproxy '*' --output /dev/null "$2" && return
    sleep 0.1
  done
  echo "$1 is not ready; the end of its log:" >&2
  tail -n 20 "$folder/$1.log" >&2
  exit 1
}

start_prometheus() {
  start prometheus prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.listen-address="$prometheus" --web.enable-admin-api --storage.tsdb.min-block-duration=10s \
    --storage.tsdb.max-block-duration=90s
  wait_for prometheus "http://$prometheus/-/ready"
}

samples() { # of one metric of node_exporter in the last quarter of an hour
  curl --silent --noproxy '*' "http://$prometheus/api/v1/query" \
    --data-urlencode 'query=sum(count_over_time(node_cpu_seconds_total[15m]))' |
    sed -n 's/.*"value":\[[^,]*,"\([0-9]*\)"\].*/\1/p'
}

say() { printf '\n== %s\n' "$*"; }

run() { # prints a command and runs it
  printf '$ perennial'
  printf ' %q' "$@"
  printf '\n'
  "$perennial" "$@" --objstore.config "$bucket"
}

cat >"$folder/prometheus.yml" <<YAML
global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {cluster: demo}}
storage: {tsdb: {out_of_order_time_window: 30m}}
scrape_configs:
  - {job_name: node, static_configs: [{targets: ['$node']}]}
  - {job_name: prometheus, static_configs: [{targets: ['$prometheus']}]}
YAML

say "a Prometheus with short blocks, and its archiver; collecting for $collect_seconds s"
start node_exporter prometheus-node-exporter --web.listen-address="$node"
start_prometheus
start archiver "$perennial" archive run --source demo --prometheus.data-dir "$folder/data" \
  --prometheus.url "http://$prometheus" --http-address "$archiver" --objstore.config "$bucket"
wait_for archiver "http://$archiver/-/ready"
sleep "$collect_seconds"
stop node_exporter
sleep 2
before="$(samples)"
echo "samples of node_cpu_seconds_total: $before"

say "the mistake"
echo "\$ curl -X POST 'http://$prometheus/api/v1/admin/tsdb/delete_series?match[]={job=\"node\"}'"
curl --silent --show-error --fail --noproxy '*' -X POST -g \
  "http://$prometheus/api/v1/admin/tsdb/delete_series?match[]={job=\"node\"}"
sleep 3
after="$(samples)"
echo "samples of node_cpu_seconds_total: ${after:-none}"

say "find it"
run restore find demo --deletes
as_of="$("$perennial" restore find demo --deletes --objstore.config "$bucket" |
  grep -o -e '--as-of [^ ]*' | sort | head -n 1 | cut -d' ' -f2)"

say "plan: just before it"
run restore plan demo --as-of "$as_of" --to "$folder/restored"

say "restore beside the broken directory"
run restore run demo --as-of "$as_of" --to "$folder/restored" --yes
"$perennial" restore check "$folder/restored"

say "exchange the directories and start"
stop prometheus
mv "$folder/data" "$folder/data.broken"
mv "$folder/restored" "$folder/data"
start_prometheus
back="$(samples)"
echo "samples of node_cpu_seconds_total: ${back:-none} (before the mistake: $before)"
if [ "${back:-0}" -lt "$before" ]; then
  echo "the data is not back" >&2
  exit 1
fi
say "the data is back"
