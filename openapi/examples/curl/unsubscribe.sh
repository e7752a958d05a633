#!/bin/sh
# Ends a subscription.
#
#   unsubscribe.sh ID
set -eu
: "${1:?Say the id as the first argument.}"
. "$(dirname "$0")/call.sh"

call DELETE "/subscriptions/$1"
