-- What a request costs, for the filters after this one, which ask a service whether limits are kept and tell it the cost
-- when the request is done: also when its client has left meanwhile.
--
-- The compiler puts before this file: LIMITED, a text of lines "kind of limit TAB consumer or model that has it";
-- locate.lua, tell_limits.lua, read_usage.lua and estimate.lua.
local HAS = {}
for kind, name in string.gmatch(LIMITED, "([^\t\n]+)\t([^\t\n]+)\n") do
  HAS[kind] = HAS[kind] or {}
  HAS[kind][name] = true
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local consumer, model = headers:get("x-gw-consumer"), headers:get("x-gw-model")
  if not consumer or not model then return end
  local metadata = handle:streamInfo():dynamicMetadata()
  local limited = false
  for kind, names in pairs(HAS) do
    local name = find(kind, "^model") and model or consumer
    if names[name] then
      -- No header: they are gone when the request is done.
      metadata:set("gw.tokens", kind, name)
      limited = true
    end
  end
  if not limited then return end
  metadata:set("gw.tokens", "model", model)
  local known = metadata:get("gw")
  local size = known and known.request and known.request.size or 0
  metadata:set("gw", "charge", ceil(size / BYTES_OF_A_TOKEN))
  metadata:set("gw", "tokens", "service")
end

-- Puts OpenAI's headers in the place of those of the service, which has told of the last limit that was asked first, and
-- after what those of requests say. Who was refused is told of the limit that has refused.
local function tell_service_limits(headers, refused)
  local said = headers:getNumValues("x-ratelimit-limit")
  local number, limit, remaining, reset = said, nil, nil, nil
  for index = 0, said - 1 do
    local told = match(headers:getAtIndex("x-ratelimit-limit", index), "^(%d+),.*;w=")
    if told then
      number = math.min(number, index)
      local left = tonumber(headers:getAtIndex("x-ratelimit-remaining", index)) or 0
      if not limit or (not refused and left < remaining) then
        limit, remaining, reset = told, left, tonumber(headers:getAtIndex("x-ratelimit-reset", index)) or 0
      end
    end
  end
  tell_limits(headers, number)
  for _, name in ipairs({ "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset" }) do headers:remove(name) end
  if not limit then return end
  headers:replace("x-ratelimit-limit-tokens", limit)
  headers:replace("x-ratelimit-remaining-tokens", string.format("%d", refused and 0 or remaining))
  headers:replace("x-ratelimit-reset-tokens", duration(reset * 1000))
  return max(1, reset)
end

local function refuse(handle, headers, seconds)
  headers:remove("x-gw-token-limit")
  if not seconds then return end
  headers:replace("retry-after", string.format("%d", seconds))
  local body = handle:body()
  if not body then return end
  local text = string.gsub(body:getBytes(0, body:length()), "later%.", string.format("in %ds.", seconds), 1)
  handle:headers():replace("content-length", tostring(body:setBytes(text)))
end

function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local known = metadata:get("gw")
  if not known or not known.tokens then return end
  local headers = handle:headers()
  local refused = headers:get("x-gw-token-limit")
  local seconds = tell_service_limits(headers, refused)
  local charged = known.charge
  local function charge(tokens)
    if tokens == charged then return end
    -- What was had before a part of the answer is no longer there.
    handle:streamInfo():dynamicMetadata():set("gw", "charge", tokens)
    charged = tokens
  end
  if headers:get(":status") ~= "200" then
    -- Without them the service is not told of a cost.
    for kind in pairs(metadata:get("gw.tokens")) do metadata:set("gw.tokens", kind, "") end
    if refused then refuse(handle, headers, seconds) end
    return
  end
  if not known.request then return end
  local reserve, estimate = charged, nil
  local answer = read_answer(handle, headers, known.request, function(answer, length, text)
    if answer.output then return charge(answer.input + answer.output) end
    if not estimate then estimate = text and stream_estimate() or whole_estimate(known.request.operation) end
    charge(reserve + estimate(length, text))
  end)
  if answer and answer.output then charge(answer.input + answer.output) end
end
