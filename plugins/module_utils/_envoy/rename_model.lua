-- Writes the provider's name of the model into the body. Routes that need it give the name as metadata of this filter.
-- The compiler puts locate.lua and locate_field.lua before this file. The body was read once already, so a refusal here
-- is a defect.
function envoy_on_request(handle)
  local name = handle:metadata():get("model")
  if not name then return end
  local boundary = form_boundary(handle:headers():get("content-type") or "")
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ""
  local first, last
  if boundary then
    first, last = locate_field(text, boundary)
  else
    first, last = locate(text)
  end
  local sent = first and renamed(text, first, last, name, boundary)
  if not sent then
    handle:respond({ [":status"] = "500" }, first and "The name of the model is the boundary of the form." or last)
    return
  end
  body:setBytes(sent)
end
