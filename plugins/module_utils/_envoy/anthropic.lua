-- Makes of a chat completion a request to Anthropic's API and of its answer OpenAI's, on the way to the provider and back.
-- The compiler puts MOST_TOKENS before this file, and the scripts that it uses.
local VERSION = "2023-06-01"

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  -- When the provider is asked again the path is what it was changed to before, while the body is the client's.
  local base = match(path, "^(.*)/chat/completions$") or match(path, "^(.*)/messages$")
  local translated, why, param
  if base and headers:get(":method") == "POST" then
    local body = handle:body(true)
    translated, why, param = attempt(translate, body:getBytes(0, body:length()), MOST_TOKENS)
    if translated then body:setBytes(translated.body) end
    headers = handle:headers()
  else
    why, param = "This model is available at /v1/chat/completions only.", "model"
  end
  -- It was looked at before, so this is but for the moment in which a model's provider changes.
  if not translated then
    return handle:respond({ [":status"] = "400", ["x-gw-param"] = param }, why)
  end
  headers:replace(":path", base .. "/messages")
  headers:replace("anthropic-version", VERSION)
  -- What a client says to change the answer's form.
  headers:remove("anthropic-beta")
  handle:streamInfo():dynamicMetadata():set("gw", "anthropic", { usage = translated.usage })
end

-- What the provider says of itself and of the gateway's account.
local function remove_own(headers)
  local own = {}
  for name in pairs(headers) do
    if find(name, "^anthropic%-") or name == "request-id" then own[#own + 1] = name end
  end
  for _, name in ipairs(own) do headers:remove(name) end
end

local function stream(handle, with_usage)
  local translated, last, sent = translator(with_usage), nil, nil
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    last, sent = chunk, ""
    if length > 0 then
      sent = translated(chunk:getBytes(0, length))
      chunk:setBytes(sent)
    end
  end
  -- What came last can still be changed, unless trailers came after it.
  local rest = translated(nil)
  if rest ~= "" and last then pcall(last.setBytes, last, sent .. rest) end
end

-- The body of an answer that is no stream, and its status.
local function whole(text, status)
  if status == "200" then
    local translated = attempt(translate_message, text)
    if translated then return translated, status end
    return BAD_ANSWER, "502"
  end
  local value = attempt(read_json, text)
  return translate_error(value, status) or BAD_ANSWER, status == "529" and "503" or status
end

function envoy_on_response(handle)
  local headers = handle:headers()
  remove_own(headers)
  local status = headers:get(":status")
  local kind = lower(headers:get("content-type") or "")
  if status == "200" and find(kind, "^text/event%-stream") then
    headers:remove("content-length")
    headers:remove("content-encoding")
    local known = handle:streamInfo():dynamicMetadata():get("gw")
    return stream(handle, known and known.anthropic and known.anthropic.usage)
  end
  local body = handle:body(true)
  local text
  text, status = whole(body:getBytes(0, body:length()), status)
  body:setBytes(text)
  headers = handle:headers()
  headers:replace(":status", status)
  headers:replace("content-type", "application/json")
  headers:remove("content-encoding")
end
