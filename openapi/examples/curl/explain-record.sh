#!/bin/sh
# Says what would become of a record, check by check; nothing is stored.
#
#   explain-record.sh [FILE]
set -eu
. "$(dirname "$0")/call.sh"

call POST /records/explain "@${1:-$here/record.json}"
