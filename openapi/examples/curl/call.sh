# What the scripts of this folder share: they read it, it is not run by itself.
#
#   STREAMGATE_URL      the gateway; http://127.0.0.1:8080 unless set
#   STREAMGATE_API_KEY  the key; unless set, the one in streamgate-data/development.key
#
# shellcheck shell=sh disable=SC2034

here=$(dirname "$0")
organization=0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10
gateway=${STREAMGATE_URL:-http://127.0.0.1:8080}
key=${STREAMGATE_API_KEY:-$(cat streamgate-data/development.key)}

# call METHOD PATH [BODY]: prints the answer. One that is no success is printed too, and the script ends with curl's 22.
# The key goes through a pipe, so that the list of processes does not show it. BODY is JSON, or @FILE.
call() {
    method=$1 path=$2
    shift 2
    [ $# -eq 0 ] || set -- --header 'Content-Type: application/json' --data-binary "$1"
    status=0
    printf 'header = "X-Api-Key: %s"\n' "$key" |
        curl --config - --silent --show-error --fail-with-body --request "$method" "$@" "$gateway/api/v1$path" || status=$?
    echo
    return "$status"
}
