-- What an answer tells its client of the limits: OpenAI's headers instead of Envoy's. It is a part of the script that is
-- asked about every answer anyway; the filters that count are within it.

-- As Go writes a duration, which is what OpenAI sends: 120ms, 8.64s, 1m0s.
local function duration(milliseconds)
  if milliseconds < 1000 then return milliseconds == 0 and "0s" or milliseconds .. "ms" end
  if milliseconds < 60000 then return milliseconds / 1000 .. "s" end
  return math.floor(milliseconds / 60000) .. "m" .. milliseconds % 60000 / 1000 .. "s"
end

-- `number` is how many of the filters that have counted the request were those of requests.
local function tell_limits(headers, number)
  -- Each filter that has counted the request has added its own, the last one first: it is the one that may have refused.
  local limit, remaining
  for index = 0, number - 1 do
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
