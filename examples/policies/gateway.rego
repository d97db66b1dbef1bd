# For OPA and conftest: conftest test plan.json --policy examples/policies
package main

import rego.v1

# What the hosts would serve, whether or not it changes.
served contains resource if {
	some resource in input.resource_changes
	resource.change.after != null
}

deny contains message if {
	some resource in served
	resource.type == "gateway_consumers"
	not resource.change.after.limits.tokens_per_day
	message := sprintf("%s: may use any number of tokens in a day; set limits.tokens_per_day", [resource.address])
}

deny contains message if {
	some resource in input.resource_changes
	resource.type == "gateway_models"
	resource.change.actions == ["delete"]
	some host in input.gateway.modules[resource.module_address]
	message := sprintf("%s: is removed on %s while clients may use it; announce it first", [resource.address, host])
}
