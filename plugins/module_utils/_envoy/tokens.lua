-- Who owes how many tokens. A request takes from each of its buckets one token and what is owed there; what its answer
-- costs is owed from then on. So that nobody gets away by leaving in the midst of an answer, a request is charged with an
-- estimate at once, which grows with the answer and gives way to what the provider says.
--
-- The compiler puts before this file: MEMBERS and TABLES (see limits.lua); CONSUMERS and MODELS, texts of lines
-- "name TAB limit"; locate.lua, tell_limits.lua, read_usage.lua and estimate.lua.
local min = math.min
-- So many debts are kept at least, and twice as many at most: those that were not looked at for longest are forgotten.
local MOST = 50000

local function numbers(text)
  local found = {}
  for name, value in string.gmatch(text, "([^\t\n]+)\t(%d+)\n") do found[name] = tonumber(value) end
  return found
end
local TABLE_OF, RATES, OWN, SHARED = {}, {}, numbers(CONSUMERS), numbers(MODELS)
for consumer, name in string.gmatch(MEMBERS, "([^\t\n]+)\t([^\t\n]+)\n") do TABLE_OF[consumer] = name end
for name, lines in string.gmatch(TABLES, "([^\t\n]+)\n(.-\n)\n") do RATES[name] = lines end

local function pair_limit(consumer, model)
  local lines = RATES[TABLE_OF[consumer]]
  local _, stop = find(lines or "", "\t" .. model .. "\t", 1, true)
  return stop and tonumber(match(lines, "^%d+", stop + 1)) or 0
end

-- ---- debts; less than nothing is what was paid and not used

local young, old, count = {}, {}, 0

local function owed(key)
  return young[key] or old[key] or 0
end

local function owe(key, tokens)
  local before = young[key]
  if not before then
    before = old[key] or 0
    if count == MOST then old, young, count = young, {}, 0 end
    count = count + 1
  end
  young[key] = before + tokens
end

-- ---- requests

-- What a request takes from a bucket: a token and the debt, or of a debt that no bucket can hold half a minute's tokens,
-- and then it has to wait. It is told to the filter of that name.
local function take(headers, name, key, limit)
  if limit == 0 then return 0 end
  local debt = owed(key)
  local hits = max(debt, 0) + 1
  if hits > limit then
    hits = ceil(limit / 2)
    headers:replace("x-gw-tokens-owes-" .. name, "yes")
  end
  headers:replace("x-gw-tokens-take-" .. name, string.format("%d", hits))
  return hits
end

local function keys_of(consumer, model)
  return consumer .. "\n" .. model, consumer, "\n" .. model
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local consumer, model = headers:get("x-gw-consumer"), headers:get("x-gw-model")
  if not consumer or not model then return end
  local both, own, shared = pair_limit(consumer, model), OWN[consumer] or 0, SHARED[model] or 0
  if both + own + shared == 0 then return end
  if both > 0 then headers:replace("x-gw-tokens-rate", tostring(both)) end
  if own > 0 then headers:replace("x-gw-tokens-consumer", consumer) end
  if shared > 0 then headers:replace("x-gw-tokens-model", model) end
  local metadata = handle:streamInfo():dynamicMetadata()
  local known = metadata:get("gw")
  local size = known and known.request and known.request.size or 0
  local reserve = ceil(size / BYTES_OF_A_TOKEN)
  local pair, consumers, models = keys_of(consumer, model)
  local of_pair, of_own, of_shared =
    take(headers, "consumer-model", pair, both), take(headers, "consumer", consumers, own), take(headers, "model", models, shared)
  if both > 0 then owe(pair, reserve - of_pair) end
  if own > 0 then owe(consumers, reserve - of_own) end
  if shared > 0 then owe(models, reserve - of_shared) end
  local note = "%s\n%s\n%d %d %d %d %d %d %d"
  metadata:set(
    "gw",
    "tokens",
    string.format(note, consumer, model, reserve, both, of_pair, own, of_own, shared, of_shared)
  )
end

-- ---- answers

-- What was asked of the buckets, in their order.
local function asked(note)
  local consumer, model, reserve, both, of_pair, own, of_own, shared, of_shared =
    match(note, "^(.-)\n(.-)\n(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$")
  local pair, consumers, models = keys_of(consumer, model)
  local buckets = {}
  local function add(key, limit, hits)
    if limit ~= "0" then buckets[#buckets + 1] = { key = key, limit = tonumber(limit), hits = tonumber(hits) } end
  end
  add(pair, both, of_pair)
  add(consumers, own, of_own)
  add(models, shared, of_shared)
  return buckets, tonumber(reserve)
end

-- Reads what the buckets say, the last that was asked first and after what those of requests say, and returns how many
-- were asked.
local function levels(headers, buckets, refused)
  local said = headers:getNumValues("x-ratelimit-limit")
  -- Whom a bucket has refused is not asked any further.
  local number = refused and said or #buckets
  for index, bucket in ipairs(buckets) do
    local place = said - index
    if index <= number then
      -- What refuses those who owe too much says so by a limit that is nobody's.
      bucket.owes = tonumber(headers:getAtIndex("x-ratelimit-limit", place)) ~= bucket.limit
      bucket.level = bucket.owes and 0 or tonumber(headers:getAtIndex("x-ratelimit-remaining", place))
    end
  end
  tell_limits(headers, said - number)
  headers:remove("x-ratelimit-limit")
  headers:remove("x-ratelimit-remaining")
  headers:remove("x-ratelimit-reset")
  return number
end

local function tell(headers, bucket)
  local left = max(0, min(bucket.limit, bucket.level - owed(bucket.key)))
  headers:replace("x-ratelimit-limit-tokens", tostring(bucket.limit))
  headers:replace("x-ratelimit-remaining-tokens", tostring(left))
  local missing = bucket.limit - (bucket.level - owed(bucket.key))
  headers:replace("x-ratelimit-reset-tokens", duration(max(0, ceil(missing * 60000 / bucket.limit))))
end

-- Gives back what a refused request was charged with, but for what it has paid, and says when to try again.
local function refuse(handle, headers, buckets, reserve, number)
  for index, bucket in ipairs(buckets) do
    local paid = index < number or (index == number and bucket.owes)
    owe(bucket.key, paid and -reserve or bucket.hits - reserve)
  end
  local bucket = buckets[number]
  tell(headers, bucket)
  local seconds = bucket.owes and 30 or max(1, ceil((bucket.hits - bucket.level) * 60 / bucket.limit))
  headers:replace("retry-after", tostring(seconds))
  headers:remove("x-gw-token-limit")
  local body = handle:body()
  if not body then return end
  local text = string.gsub(body:getBytes(0, body:length()), "later%.", "in " .. seconds .. "s.", 1)
  handle:headers():replace("content-length", tostring(body:setBytes(text)))
end

function envoy_on_response(handle)
  local known = handle:streamInfo():dynamicMetadata():get("gw")
  if not known or not known.tokens then return end
  local headers = handle:headers()
  local buckets, charged = asked(known.tokens)
  local refused = headers:get("x-gw-token-limit")
  local number = levels(headers, buckets, refused)
  if refused then return refuse(handle, headers, buckets, charged, number) end

  local function charge(tokens)
    if tokens == charged then return end
    for _, bucket in ipairs(buckets) do owe(bucket.key, tokens - charged) end
    charged = tokens
  end
  local least = nil
  for _, bucket in ipairs(buckets) do
    if not least or bucket.level - owed(bucket.key) < least.level - owed(least.key) then least = bucket end
  end
  local ok = headers:get(":status") == "200"
  if not ok then charge(0) end
  tell(headers, least)
  if not ok or not known.request then return end
  local reserve, estimate = charged, nil
  local answer = read_answer(handle, headers, known.request, function(answer, length, text)
    if answer.output then return charge(answer.input + answer.output) end
    if not estimate then estimate = text and stream_estimate() or whole_estimate(known.request.operation) end
    charge(reserve + estimate(length, text))
  end)
  if answer and answer.output then charge(answer.input + answer.output) end
end
