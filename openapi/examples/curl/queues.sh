#!/bin/sh
# The queues of the organization.
#
#   queues.sh
set -eu
. "$(dirname "$0")/call.sh"

call GET "/queues?organizationId=$organization"
