#!/bin/sh
# What became of a record.
#
#   receipt.sh RECEIPT
set -eu
: "${1:?Say the receipt as the first argument.}"
. "$(dirname "$0")/call.sh"

call GET "/receipts/$1"
