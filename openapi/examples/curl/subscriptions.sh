#!/bin/sh
# What is subscribed, and how it goes.
#
#   subscriptions.sh
set -eu
. "$(dirname "$0")/call.sh"

call GET "/subscriptions?organizationId=$organization"
