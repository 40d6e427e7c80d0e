#!/bin/sh
# Deploy the atlas: back up and upgrade the database, compare it with the code, ask for the health.
# Stops at the first failure, so that nothing is restarted on a database it does not fit.
#
#     DATABASE_URL=postgresql://... ./deploy.sh && systemctl restart atlas
set -eu
cd "$(dirname "$0")"
flask="${FLASK:-flask} --app atlas"

$flask dbkit migrate upgrade --backup
$flask dbkit migrate check
$flask dbkit health --group startup
