#!/bin/sh
# Is the key good, and what for?
#
#   connection.sh
set -eu
. "$(dirname "$0")/call.sh"

call GET /connection
