#!/bin/sh
# Everything that a record can name: organizations, work streams, entities.
#
#   lists.sh
set -eu
. "$(dirname "$0")/call.sh"

call GET /organizations
call GET "/work-streams?organizationId=$organization"
call GET "/entity-configurations?organizationId=$organization"
