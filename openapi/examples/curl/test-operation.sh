#!/bin/sh
# Runs every check of the configuration and stores nothing.
#
#   test-operation.sh
set -eu
. "$(dirname "$0")/call.sh"

call POST /records "@$here/test.json"
