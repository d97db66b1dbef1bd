-- Whose token it is: sets x-gw-consumer from the claim that the token's issuer names consumers by.
-- The compiler puts before this file: CLAIMS, a text of lines "issuer TAB claim", and TOKENS, a text of lines
-- "issuer TAB value of the claim TAB consumer".
local CLAIM = {}
for issuer, claim in string.gmatch(CLAIMS, "([^\t\n]+)\t([^\t\n]+)\n") do CLAIM[issuer] = claim end
local OWNER = {}
for issuer, value, consumer in string.gmatch(TOKENS, "([^\t\n]+)\t([^\t\n]+)\t([^\t\n]+)\n") do
  OWNER[issuer .. "\t" .. value] = consumer
end

function envoy_on_request(handle)
  -- What the filter before this one found in a token that it accepted, under the name of the issuer; nobody else can
  -- write there.
  local accepted = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn") or {}
  local consumer
  for issuer, payload in pairs(accepted) do
    local value = CLAIM[issuer] and payload[CLAIM[issuer]]
    -- A number or a list is nobody's name, even if it reads like one.
    consumer = type(value) == "string" and OWNER[issuer .. "\t" .. value]
  end
  if not consumer then return handle:respond({ [":status"] = "401" }, "") end
  handle:headers():replace("x-gw-consumer", consumer)
end
