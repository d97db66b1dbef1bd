-- Who may ask for what, and what is asked for: sets x-gw-access (which models the consumer may use) and
-- x-gw-model (the model in the body). Routes and access lists are keyed by these two headers.
-- The compiler puts before this file: ACCESS, a text of lines "consumer TAB access", locate.lua and ask_usage.lua.
local GROUPS = {}
for consumer, access in string.gmatch(ACCESS, "([^\t\n]+)\t([^\t\n]+)\n") do GROUPS[consumer] = access end

-- The requests that carry a model in a JSON body. Everything else of the API manages an account of a provider,
-- which is nobody's business here. The value is OpenTelemetry's gen_ai.operation.name, where it has one.
local ENDPOINTS = {
  ["/v1/audio/speech"] = "speech",
  ["/v1/chat/completions"] = "chat",
  ["/v1/completions"] = "text_completion",
  ["/v1/embeddings"] = "embeddings",
  ["/v1/images/generations"] = "image_generation",
  ["/v1/moderations"] = "moderation",
  ["/v1/rerank"] = "rerank",
  ["/v1/responses"] = "chat",
}
-- Their streams tell the usage only when they are asked to.
local ASKED_FOR_USAGE = { ["/v1/chat/completions"] = true, ["/v1/completions"] = true }
local LONGEST_NAME = 256

local function read_model(text, others)
  local first, last = locate(text, others)
  if not first then return nil, last end
  local model = sub(text, first, last)
  -- The one escape that is common and harmless: PHP writes "/" as "\/".
  if find(model, "\\/", 1, true) then model = string.gsub(model, "\\/", "/") end
  if find(model, "\\", 1, true) then return nil, "'model' must be written without escapes." end
  -- It becomes the value of a header.
  if #model == 0 or #model > LONGEST_NAME or find(model, "[^\33-\126]") then
    return nil, "'model' must be 1 to 256 printable ASCII characters without spaces."
  end
  return model, first, last
end

-- In another character set the same bytes may be another JSON.
local function is_json(headers)
  local kind = lower(headers:get("content-type") or "application/json")
  local charset = string.match(kind, 'charset%s*=%s*"?([^%s;,"]*)')
  local encoding = headers:get("content-encoding")
  return (find(kind, "^application/json%s*$") or find(kind, "^application/json%s*;"))
    and (not charset or charset == "utf-8")
    and (not encoding or lower(encoding) == "identity")
end

local function refuse(handle, status, message)
  handle:respond({ [":status"] = status }, message)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local consumer = headers:get("x-gw-consumer")
  local access = consumer and GROUPS[consumer]
  if not access then return refuse(handle, "403", "This API key is not allowed to use this gateway.") end
  headers:replace("x-gw-access", access)
  -- CONNECT has none.
  local path = string.match(headers:get(":path") or "", "^[^?#]*")
  if path == "" then return refuse(handle, "404", "There is no path.") end
  headers:replace(":path", path)
  if headers:get(":method") == "POST" and ENDPOINTS[path] then
    if not is_json(headers) then
      return refuse(handle, "400", "The request body must be plain application/json in UTF-8.")
    end
    -- As it is read here, whatever else the client says of it.
    headers:replace("content-type", "application/json")
    local body = handle:body()
    if not body then return refuse(handle, "400", "The request body must be a JSON object.") end
    local text = body:getBytes(0, body:length())
    local at = ASKED_FOR_USAGE[path] and { stream = false, stream_options = false } or nil
    local model, first, last = read_model(text, at)
    if not model then return refuse(handle, "400", first) end
    local asking, why = nil, nil
    if at then
      asking, why = with_usage(text, at)
      if why then return refuse(handle, "400", why) end
    end
    -- Waiting for the body has ended the life of `headers`.
    headers = handle:headers()
    headers:replace("x-gw-model", model)
    -- The usage is read from the answer.
    headers:remove("accept-encoding")
    handle:clearRouteCache()
    -- The route is the model's, and says whether its providers can be asked, and what its one provider calls it, if that
    -- is something else.
    local route = handle:metadata()
    if asking and route:get("stream_usage") then asking = nil end
    local sent, name = asking, route:get("model")
    if name then
      if asking then first, last = locate(asking) end
      sent = asking or text
      sent = sub(sent, 1, first - 1) .. name .. sub(sent, last + 1)
    end
    if sent then body:setBytes(sent) end
    local request = { operation = ENDPOINTS[path], hide_usage = asking ~= nil }
    handle:streamInfo():dynamicMetadata():set("gw", "request", request)
    return
  end
  handle:clearRouteCache()
end
