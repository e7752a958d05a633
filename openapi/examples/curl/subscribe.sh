#!/bin/sh
# Lets the gateway post every record that reaches a queue to an address. Prints the subscription's id and its secret.
#
#   subscribe.sh ADDRESS [QUEUE]      without QUEUE: every queue
set -eu
: "${1:?Say the address as the first argument.}"
. "$(dirname "$0")/call.sh"

call POST /subscriptions "{\"callbackUrl\":\"$1\",\"organizationId\":\"$organization\",\"queue\":\"${2:-}\"}"
