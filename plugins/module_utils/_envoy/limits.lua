-- How often a consumer may ask for a model, for the filters after this one, and what their answers tell clients of
-- their limits: OpenAI's headers instead of Envoy's. The compiler puts before this file: MEMBERS, a text of lines
-- "consumer TAB table", and TABLES, a text of a line with the name of each table, its lines "TAB model TAB rate" and an
-- empty line.
local find, match = string.find, string.match
local TABLE_OF, RATES = {}, {}
for consumer, name in string.gmatch(MEMBERS, "([^\t\n]+)\t([^\t\n]+)\n") do TABLE_OF[consumer] = name end
for name, lines in string.gmatch(TABLES, "([^\t\n]+)\n(.-\n)\n") do RATES[name] = lines end

function envoy_on_request(handle)
  local headers = handle:headers()
  local model = headers:get("x-gw-model")
  local lines = model and RATES[TABLE_OF[headers:get("x-gw-consumer") or ""]]
  local _, stop = find(lines or "", "\t" .. (model or "") .. "\t", 1, true)
  if stop then headers:replace("x-gw-rate", match(lines, "^%d+", stop + 1)) end
end

-- As Go writes a duration, which is what OpenAI sends: 120ms, 8.64s, 1m0s.
local function duration(milliseconds)
  if milliseconds < 1000 then return milliseconds == 0 and "0s" or milliseconds .. "ms" end
  if milliseconds < 60000 then return milliseconds / 1000 .. "s" end
  return "1m0s"
end

function envoy_on_response(handle)
  local headers = handle:headers()
  -- Each filter that has counted the request has added its own, the last one first: it is the one that may have refused.
  local limit, remaining
  for index = 0, headers:getNumValues("x-ratelimit-limit") - 1 do
    local left = tonumber(headers:getAtIndex("x-ratelimit-remaining", index))
    if not remaining or left < remaining then
      limit, remaining = tonumber(headers:getAtIndex("x-ratelimit-limit", index)), left
    end
  end
  if not limit then return end
  headers:remove("x-ratelimit-limit")
  headers:remove("x-ratelimit-remaining")
  headers:remove("x-ratelimit-reset")
  headers:remove("x-gw-limit")
  headers:replace("x-ratelimit-limit-requests", tostring(limit))
  headers:replace("x-ratelimit-remaining-requests", tostring(remaining))
  -- A minute fills an empty bucket.
  headers:replace("x-ratelimit-reset-requests", duration(math.ceil((limit - remaining) * 60000 / limit)))
end
