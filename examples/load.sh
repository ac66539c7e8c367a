#!/bin/sh
# Send transactions to `beam-fraud serve` with nothing but curl, and print how long the answers take:
#   sh examples/load.sh day.jsonl http://127.0.0.1:8000
# One request for each line of JSON, CLIENTS (4) at a time. A token comes from the variable TOKEN.
set -eu
file=$1
url=${2:-http://127.0.0.1:8000}
# In a file: others can read the arguments of a process.
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
printf 'Content-Type: application/json\n' >"$headers"
[ -z "${TOKEN:-}" ] || printf 'Authorization: Bearer %s\n' "$TOKEN" >>"$headers"
tr '\n' '\0' <"$file" |
    xargs -0 -n 1 -P "${CLIENTS:-4}" curl -sS -o /dev/null -w '%{http_code} %{time_total}\n' \
        -H "@$headers" "$url/predict" --data-raw |
    sort -k 2 -n |
    awk '
        { answers[$1]++; seconds[NR] = $2 }
        function at(share) { rank = int(share * NR + 0.999999); return 1000 * seconds[rank ? rank : 1] }
        END {
            for (status in answers) printf "  status %s %8d\n", status, answers[status]
            if (NR) printf "  p50 %6.1f ms\n  p99 %6.1f ms\n", at(0.5), at(0.99)
        }'
