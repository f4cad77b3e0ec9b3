#!/bin/sh
# build.sh JOB ARGUMENT...: Maven over android_demo. A line at the end says how many tests passed or, where nothing could
# be fetched, that this is why it failed.
job=$1
shift
here=$(dirname "$0")/..
log=$(mktemp)
trap 'rm -f "$log" "$log.code"' EXIT
rm -f "$here"/*/target/surefire-reports/*.txt
{ mvn -q -B -f "$here/pom.xml" "$@" 2>&1; echo $? >"$log.code"; } | tee "$log"
code=$(cat "$log.code")
if [ "$code" -eq 0 ]; then
    cat "$here"/*/target/surefire-reports/*.txt 2>/dev/null | awk -v job="$job" -F'[:,]' \
        '/^Tests run:/ { run += $2; skipped += $8 } END { if (run) print job ": " run - skipped " passed, 0 failed, " skipped " skipped" }'
elif grep -Eq 'Could not (transfer|find) artifact|could not be resolved|in offline mode' "$log"; then
    echo "$job failed, for Maven could not fetch what the lines above name: it needs Maven Central once, and then works offline" >&2
fi
exit "$code"
