#!/bin/sh
# Hands over a record. Sent again it gets the same receipt, with "duplicate":true.
#
#   route-record.sh [FILE]
set -eu
. "$(dirname "$0")/call.sh"

call POST /records "@${1:-$here/record.json}"
