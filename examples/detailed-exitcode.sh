#!/bin/sh
# As `terraform plan -detailed-exitcode`: 0 when nothing would change, 2 when something would, 1 for an error, such as a host
# that cannot be reached.
#   detailed-exitcode.sh plan -i inventories/production
#   detailed-exitcode.sh promote -i inventories/production -e from=staging -e to=production
set -u
playbook=${1:?plan or promote?}
shift
rm -f "$playbook.json"
ansible-playbook "gatewayops.openai.$playbook" -e gateway_plan=plan.json -e gateway_promote_file=promote.json "$@" || exit 1
# Without any gateway there is no plan.
[ -f "$playbook.json" ] || exit 1
exec python3 -c 'import json, sys
found = json.load(open(sys.argv[1]))
sys.exit(1 if found.get("errored") else 2 if found["applyable"] else 0)' "$playbook.json"
