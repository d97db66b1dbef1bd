-- Writes the provider's name of the model into the body. Routes that need it give the name as metadata of this filter.
-- The compiler puts locate.lua before this file. The body was read once already, so a refusal here is a defect.
function envoy_on_request(handle)
  local name = handle:metadata():get("model")
  if not name then return end
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ""
  local first, last = locate(text)
  if not first then
    handle:respond({ [":status"] = "500" }, last)
    return
  end
  body:setBytes(sub(text, 1, first - 1) .. name .. sub(text, last + 1))
end
