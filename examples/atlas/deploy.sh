#!/bin/sh
# Deploy the atlas: back up and upgrade the database, compare it with the code, back up what it is now
# and try the copy, ask for the health, and let the doctor have a last look.
# Stops at the first failure, so that nothing is restarted on a database it does not fit.
#
#     DATABASE_URL=postgresql://... ./deploy.sh && systemctl restart atlas
set -eu
cd "$(dirname "$0")"
flask="${FLASK:-flask} --app atlas"

$flask dbkit migrate upgrade --backup
$flask dbkit migrate check
$flask dbkit backup create --verify
$flask dbkit health --group startup
$flask dbkit doctor --deploy
