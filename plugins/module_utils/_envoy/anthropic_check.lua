-- Looks at what may go to a provider of Anthropic's API before it is asked. The routes of its models say as metadata of
-- this filter whether all of their deployments are there ("all") or some ("some"): then a request that cannot be
-- translated is for the others only. The compiler puts this file after read_model.lua, which ends a request that it
-- refuses.
local read_request, read_answer = envoy_on_request, envoy_on_response
local CHAT = "/v1/chat/completions"

function envoy_on_request(handle)
  read_request(handle)
  local route = handle:metadata()
  local reach = route:get("anthropic")
  if not reach then return end
  local headers = handle:headers()
  local translated, why, param
  if headers:get(":path") == CHAT then
    local body = handle:body()
    translated, why, param = attempt(translate, body:getBytes(0, body:length()), "1")
    headers = handle:headers()
  else
    why, param = "This model is available at " .. CHAT .. " only.", "model"
  end
  if translated then return end
  if reach == "all" then
    return handle:respond({ [":status"] = "400", ["x-gw-param"] = param }, why)
  end
  headers:replace("x-gw-without", "anthropic")
  headers:replace("x-envoy-max-retries", route:get("retries"))
  handle:clearRouteCache()
end

function envoy_on_response(handle)
  handle:headers():remove("x-gw-param")
  return read_answer(handle)
end
