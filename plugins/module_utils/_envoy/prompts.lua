-- Prompts and answers of a few consumers, as dynamic metadata for a file of their own. The compiler puts this after the
-- other scripts, whose functions it wraps, and before it LOGGED (names of consumers, a line each), UNTIL (seconds since
-- the epoch) and LONGEST (bytes of a prompt, and of an answer).
local NAMESPACE = "gw.prompts"
local LOGGED_CONSUMERS = {}
for name in string.gmatch(LOGGED, "[^\n]+") do LOGGED_CONSUMERS[name] = true end
-- What a client that leaves makes us lose of an answer at most: it is noted in steps.
local STEP = math.max(1024, math.floor(LONGEST / 32))
local LONGEST_LINE = 262144
local read_request, read_response = envoy_on_request, envoy_on_response

local function is_over()
  return os.time() >= UNTIL
end

-- What fits, without half a character at its end, and whether that is not all.
local function cut(text)
  if #text <= LONGEST then return text, false end
  local last = LONGEST
  for _ = 1, 3 do
    local following = byte(text, last + 1)
    if following < 128 or following > 191 then break end
    last = last - 1
  end
  return sub(text, 1, last), true
end

local function note(handle, name, text, is_cut)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(NAMESPACE, name, text)
  if is_cut then metadata:set(NAMESPACE, name .. "_cut", true) end
end

function envoy_on_request(handle)
  local consumer = handle:headers():get("x-gw-consumer")
  local logged = consumer and LOGGED_CONSUMERS[consumer] and not is_over()
  read_request(handle)
  if not logged then return end
  local known = handle:streamInfo():dynamicMetadata():get("gw")
  local kind = lower(handle:headers():get("content-type") or "")
  if not (known and known.request) or not find(kind, "^application/json") then return end
  local body = handle:body()
  if body then note(handle, "request", cut(body:getBytes(0, body:length()))) end
end

-- ---- the text of a stream

local CHARACTERS = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function character(code)
  if code < 0x80 then return string.char(code) end
  local last = string.char(0x80 + code % 64)
  code = math.floor(code / 64)
  if code < 0x20 then return string.char(0xC0 + code) .. last end
  last = string.char(0x80 + code % 64) .. last
  code = math.floor(code / 64)
  if code < 0x10 then return string.char(0xE0 + code) .. last end
  return string.char(0xF0 + math.floor(code / 64), 0x80 + code % 64) .. last
end

-- What stands after a backslash at `at`: the character, and where to go on. Half of a pair is no character.
local function escaped(text, at)
  local hex = string.match(text, "^u(%x%x%x%x)", at + 1)
  if not hex then return CHARACTERS[sub(text, at + 1, at + 1)] or "", at + 2 end
  local code = tonumber(hex, 16)
  if code < 0xD800 or code > 0xDFFF then return character(code), at + 6 end
  local low = tonumber(string.match(text, "^\\u([dD][c-fC-F]%x%x)", at + 6) or "0", 16)
  if code > 0xDBFF or low == 0 then return character(0xFFFD), at + 6 end
  return character(0x10000 + (code - 0xD800) * 0x400 + low - 0xDC00), at + 12
end

-- The text of the JSON string that begins at `position`, if one does.
local function string_at(text, position)
  if byte(text, position) ~= QUOTE then return nil end
  local close = string_end(text, position + 1)
  if not close then return nil end
  text = sub(text, position + 1, close - 1)
  local out, from = {}, 1
  while true do
    local at = find(text, "\\", from, true)
    if not at then break end
    out[#out + 1] = sub(text, from, at - 1)
    out[#out + 1], from = escaped(text, at)
  end
  out[#out + 1] = sub(text, from)
  return table.concat(out)
end

-- What an event adds to the text of an answer: of chat and text completions, and of the Responses API.
local function text_of(line)
  local _, start = find(line, "^data:[ \t]*{")
  if not start then return "" end
  local kind, delta, parts = nil, nil, {}
  local function within_delta(from, to, value)
    if sub(line, from, to) == "content" then parts[#parts + 1] = string_at(line, value) end
  end
  local function within_choice(from, to, value)
    local key = sub(line, from, to)
    if key == "text" then parts[#parts + 1] = string_at(line, value) end
    if key == "delta" and byte(line, value) == OPEN_BRACE then return (walk(line, value + 1, within_delta)) end
  end
  walk(line, start + 1, function(from, to, value)
    local key = sub(line, from, to)
    if key == "type" then
      kind = string_at(line, value)
    elseif key == "delta" then
      delta = string_at(line, value)
    elseif key == "choices" and byte(line, value) == OPEN_BRACKET then
      local _, brace = find(line, "^[ \t]*{", value + 1)
      while brace do
        value = walk(line, brace + 1, within_choice)
        if not value then return false end
        _, brace = find(line, "^[ \t]*,[ \t]*{", value)
      end
    end
  end)
  if kind == "response.output_text.delta" and delta then parts[#parts + 1] = delta end
  return table.concat(parts)
end

-- Takes a stream piece by piece, and gives `add` the pieces of its text.
local function stream_reader(add)
  local held = ""
  return function(piece)
    held = held .. piece
    local position = 1
    while true do
      local stop = find(held, "[\r\n]", position)
      if not stop then break end
      local text = text_of(sub(held, position, stop - 1))
      if text ~= "" then add(text) end
      position = stop + 1
    end
    held = #held - position < LONGEST_LINE and sub(held, position) or ""
  end
end

-- ---- answers

-- The handle, whose pieces of the body `take` is shown before anybody else.
local function overheard(handle, take)
  local heard = { listened = false }
  function heard.bodyChunks()
    heard.listened = true
    local following = handle:bodyChunks()
    return function()
      local chunk = following()
      if chunk and chunk:length() > 0 then take(chunk:getBytes(0, chunk:length())) end
      return chunk
    end
  end
  return setmetatable(heard, {
    __index = function(_, name)
      return function(_, ...) return handle[name](handle, ...) end
    end,
  })
end

function envoy_on_response(handle)
  if not handle:streamInfo():dynamicMetadata():get(NAMESPACE) then return read_response(handle) end
  local headers = handle:headers()
  local kind, encoding = lower(headers:get("content-type") or ""), headers:get("content-encoding")
  local streamed = find(kind, "^text/event%-stream")
  if not (streamed or find(kind, "^application/json")) or (encoding and lower(encoding) ~= "identity") then
    return read_response(handle)
  end
  local name = streamed and "text" or "response"
  local parts, size, noted = {}, 0, 0
  local function tell()
    noted = size
    if is_over() then
      handle:streamInfo():dynamicMetadata():set(NAMESPACE, "over", true)
    else
      note(handle, name, cut(table.concat(parts)))
    end
  end
  local function add(text)
    if size > LONGEST then return end
    parts[#parts + 1] = text
    size = size + #text
    if noted == 0 or size - noted >= STEP or size > LONGEST then tell() end
  end
  local heard = overheard(handle, streamed and stream_reader(add) or add)
  read_response(heard)
  if not heard.listened then
    for _ in heard.bodyChunks() do end
  end
  if size > noted then tell() end
end
