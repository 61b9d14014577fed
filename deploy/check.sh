#!/usr/bin/env bash
# Check what Prometheus gets and makes of it, with a real Prometheus: deploy/check.sh [URL of a running platform]
# Needs prometheus and promtool on the PATH (apt-get install prometheus). Listens on 127.0.0.1:19090 for half a minute.
set -euo pipefail
cd "$(dirname "$0")/prometheus"
url=${1:-http://127.0.0.1:7860}
for tool in prometheus promtool; do
  command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install prometheus" >&2; exit 2; }
done
promtool check config prometheus.yml
curl -fsS "$url/metrics" | promtool check metrics
folder=$(mktemp -d)
sed -e "s|127.0.0.1:7860|${url#http://}|" -e 's|15s|1s|' prometheus.yml > "$folder/prometheus.yml"
cp alerts.yml "$folder"
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
  --web.listen-address=127.0.0.1:19090 --log.level=error &
pid=$!
trap 'kill $pid 2>/dev/null || true; wait $pid 2>/dev/null || true; rm -rf "$folder"' EXIT
ask() { curl -fsS "http://127.0.0.1:19090/api/v1/$1"; }
for _ in $(seq 60); do
  ask 'query?query=trimtab_votes_total' 2> /dev/null | grep -q '"value"' && break
  sleep 0.5
done
ask 'query?query=trimtab_votes_total' | grep -q '"value"' || { echo "Prometheus has no series of $url" >&2; exit 1; }
for _ in $(seq 60); do
  ask rules | grep -q '"health":"unknown"' || break
  sleep 0.5
done
rules=$(ask rules)
echo "$rules" | grep -qE '"health":"(err|unknown)"' && { echo "a rule cannot be evaluated: $rules" >&2; exit 1; }
echo "Prometheus reads $url: $(ask 'label/__name__/values' | grep -o 'trimtab_[a-z_]*' | sort -u | wc -l) names; every alert rule can be evaluated"
