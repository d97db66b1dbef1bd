-- Who may ask for what, and what is asked for: sets x-gw-access (which models the consumer may use) and
-- x-gw-model (the model in the body). Routes and access lists are keyed by these two headers.
-- The compiler puts before this file: ACCESS, a text of lines "consumer TAB access", locate.lua, locate_field.lua,
-- ask_usage.lua and, for gateways that have endpoints without a model, endpoints.lua.
local GROUPS = {}
for consumer, access in string.gmatch(ACCESS, "([^\t\n]+)\t([^\t\n]+)\n") do GROUPS[consumer] = access end

-- The requests that carry a model in a body, and what they are: OpenTelemetry's gen_ai.operation.name, where it has one.
local IN_JSON = {
  ["/v1/audio/speech"] = "speech",
  ["/v1/chat/completions"] = "chat",
  ["/v1/completions"] = "text_completion",
  ["/v1/embeddings"] = "embeddings",
  ["/v1/images/generations"] = "image_generation",
  ["/v1/moderations"] = "moderation",
  ["/v1/rerank"] = "rerank",
  ["/v1/responses"] = "chat",
  ["/v1/responses/compact"] = "compaction",
  ["/v1/responses/input_tokens"] = "token_count",
}
-- These may be forms, too.
local IN_FORM = {
  ["/v1/audio/transcriptions"] = "transcription",
  ["/v1/audio/translations"] = "translation",
  ["/v1/images/edits"] = "image_edit",
  ["/v1/images/variations"] = "image_variation",
  ["/v1/videos"] = "video_generation",
}
-- Their streams tell the usage only when they are asked to.
local ASKED_FOR_USAGE = { ["/v1/chat/completions"] = true, ["/v1/completions"] = true }
local LONGEST_NAME = 256

local function read_model(text, others, boundary)
  local first, last
  if boundary then
    first, last = locate_field(text, boundary)
  else
    first, last = locate(text, others)
  end
  if not first then return nil, last end
  local model = sub(text, first, last)
  -- The one escape that is common and harmless: PHP writes "/" as "\/".
  if not boundary and find(model, "\\/", 1, true) then model = string.gsub(model, "\\/", "/") end
  if find(model, "\\", 1, true) then return nil, "'model' must be written without escapes." end
  -- It becomes the value of a header.
  if #model == 0 or #model > LONGEST_NAME or find(model, "[^\33-\126]") then
    return nil, "'model' must be 1 to 256 printable ASCII characters without spaces."
  end
  return model, first, last
end

-- In another character set the same bytes may be another JSON.
local function is_json(kind)
  kind = lower(kind or "application/json")
  local charset = string.match(kind, 'charset%s*=%s*"?([^%s;,"]*)')
  return (find(kind, "^application/json%s*$") or find(kind, "^application/json%s*;"))
    and (not charset or charset == "utf-8")
end

-- The size of a body as far as it is text; an image in it is taken for a thousand tokens.
local MEDIUM = 3000
local function text_size(text)
  local size, position = #text, 1
  if size < 65536 then return size end
  while true do
    local _, start = find(text, ";base64,", position, true)
    if not start then return size end
    position = find(text, '"', start, true) or #text
    size = size - (position - start) + MEDIUM
  end
end

local function refuse(handle, status, message, allow)
  handle:respond({ [":status"] = status, allow = allow }, message)
end

local function not_allowed(handle, methods)
  refuse(handle, "405", "This URL allows the methods " .. methods .. " only.", methods)
end

-- Reads the model in the body and sets what follows from it.
local function ask_model(handle, headers, path)
  local kind, encoding = headers:get("content-type"), headers:get("content-encoding")
  local boundary = IN_FORM[path] and form_boundary(kind or "")
  if not (boundary or is_json(kind)) or (encoding and lower(encoding) ~= "identity") then
    local form = IN_FORM[path] and "multipart/form-data or " or ""
    return refuse(handle, "400", "The request body must be plain " .. form .. "application/json in UTF-8.")
  end
  -- As it is read here, whatever else the client says of it.
  headers:replace("content-type", boundary and form_type(boundary) or "application/json")
  local body = handle:body()
  if not body then return refuse(handle, "400", "The request body must be a JSON object or a form.") end
  local text = body:getBytes(0, body:length())
  local at = ASKED_FOR_USAGE[path] and { stream = false, stream_options = false } or nil
  local model, first, last = read_model(text, at, boundary)
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
    sent = renamed(asking or text, first, last, name, boundary)
    if not sent then return refuse(handle, "400", "The form needs another boundary.") end
  end
  if sent then body:setBytes(sent) end
  local request = {
    operation = IN_JSON[path] or IN_FORM[path],
    hide_usage = asking ~= nil,
    size = boundary and MEDIUM or text_size(text),
  }
  handle:streamInfo():dynamicMetadata():set("gw", "request", request)
end

-- Lets the list of models through, of which the answer shows one where the path names one.
local function ask_models(handle, headers, path)
  if headers:get(":method") ~= "GET" then return not_allowed(handle, "GET") end
  local name = string.match(path, "^/v1/models/(.+)$")
  if name then
    name = string.gsub(name, "%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end)
    headers:replace("x-envoy-original-path", path)
    headers:replace(":path", "/v1/models")
    handle:streamInfo():dynamicMetadata():set("gw", "shown_model", name)
  end
  handle:clearRouteCache()
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local consumer = headers:get("x-gw-consumer")
  local access = consumer and GROUPS[consumer]
  if not access then return refuse(handle, "403", "This API key is not allowed to use this gateway.") end
  headers:replace("x-gw-access", access)
  -- CONNECT has none.
  local path, query = string.match(headers:get(":path") or "", "^([^?#]*)%??([^#]*)")
  if path == "" then return refuse(handle, "404", "There is no path.") end
  headers:replace(":path", path)
  local has_model = IN_JSON[path] or IN_FORM[path]
  if has_model and headers:get(":method") == "POST" then return ask_model(handle, headers, path) end
  if find(path, "^/v1/models/.") or path == "/v1/models" then return ask_models(handle, headers, path) end
  if ask_endpoint then
    local endpoint, status, message, allow = ask_endpoint(handle, headers, consumer, path, query)
    if status then return refuse(handle, status, message, allow) end
    if endpoint then return end
  end
  if has_model then return not_allowed(handle, "POST") end
  handle:clearRouteCache()
end
